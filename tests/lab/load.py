"""Asks a service about many users over HTTP, and measures; runs inside a machine. It imports nothing of the project.

Standard input is one JSON document: {"address", "head", "yes", "tries": [body, ...], "rate", "connections"}; the
address is a path or HOST:PORT, the head is that of each request. With a rate, so many requests a second are sent, each
when its time has come, whether earlier ones are answered or not; with 0, each connection sends the next one when it has
its answer. Standard output is {"answers", "seconds", "elapsed"}: an answer counts as "yes" if its status is 200 and
"yes" is in its body, else as its status. A time begins when the request was to be sent, so waiting for a free
connection counts.
"""

import asyncio
import json
import sys
import time
from typing import Any


async def main(order: dict[str, Any]) -> None:
    """Do it."""
    todo: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue()
    seconds: list[float] = []
    answers: dict[str, int] = {}
    rate = order["rate"]

    async def work() -> None:
        host, _, port = order["address"].rpartition(":")
        if host:
            reader, writer = await asyncio.open_connection(host, int(port))
        else:
            reader, writer = await asyncio.open_unix_connection(port)
        while (task := await todo.get()) is not None:
            due, body = task
            began = due if rate else time.perf_counter()
            writer.write(f"{order['head']}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.decode().split("\r\n") if line.startswith("Content-Length:"))
            answer = await reader.readexactly(int(length.split()[1]))
            seconds.append(time.perf_counter() - began)
            status = head[9:12].decode()
            kind = "yes" if status == "200" and order["yes"] in answer.decode() else status
            answers[kind] = answers.get(kind, 0) + 1
        writer.close()

    began = time.perf_counter()
    working = [asyncio.create_task(work()) for _ in range(order["connections"])]
    for number, body in enumerate(order["tries"]):
        if rate:
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            todo.put_nowait((due, body))
        else:
            todo.put_nowait((0.0, body))
    for _ in working:
        todo.put_nowait(None)
    await asyncio.gather(*working)
    print(json.dumps({"answers": answers, "seconds": sorted(seconds), "elapsed": time.perf_counter() - began}))


asyncio.run(main(json.load(sys.stdin)))
