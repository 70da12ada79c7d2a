"""Asks the verify service about many users, and measures; runs inside a machine. It imports nothing of the project.

Standard input is one JSON document: {"socket", "token", "tries": [[user, code], ...], "rate", "connections"}. With a
rate, so many requests a second are sent, each when its time has come, whether earlier ones are answered or not; with 0,
each connection sends the next one when it has its answer. Standard output is {"statuses", "seconds", "elapsed"}.
A time begins when the request was to be sent, so waiting for a free connection counts.
"""

import asyncio
import json
import sys
import time
from typing import Any


async def main(order: dict[str, Any]) -> None:
    """Do it."""
    todo: asyncio.Queue[tuple[float, str, str] | None] = asyncio.Queue()
    seconds: list[float] = []
    statuses: dict[str, int] = {}
    rate = order["rate"]

    async def work() -> None:
        reader, writer = await asyncio.open_unix_connection(order["socket"])
        while (task := await todo.get()) is not None:
            due, user, code = task
            began = due if rate else time.perf_counter()
            body = json.dumps({"user": user, "code": code})
            writer.write(
                f"POST /v1/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {order['token']}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.decode().split("\r\n") if line.startswith("Content-Length:"))
            await reader.readexactly(int(length.split()[1]))
            seconds.append(time.perf_counter() - began)
            status = head[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    began = time.perf_counter()
    working = [asyncio.create_task(work()) for _ in range(order["connections"])]
    for number, (user, code) in enumerate(order["tries"]):
        if rate:
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            todo.put_nowait((due, user, code))
        else:
            todo.put_nowait((0.0, user, code))
    for _ in working:
        todo.put_nowait(None)
    await asyncio.gather(*working)
    print(json.dumps({"statuses": statuses, "seconds": sorted(seconds), "elapsed": time.perf_counter() - began}))


asyncio.run(main(json.load(sys.stdin)))
