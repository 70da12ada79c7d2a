"""What this machine's programs send to syslog."""

from __future__ import annotations

import os
import socket
import threading
from typing import Self

END = b"the end of this test's log"


class Log:
    """A receiver in the place of the machine's own, as a context manager."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._sent = threading.Event()

    def __enter__(self) -> Self:
        os.rename("/dev/log", "/dev/log.kept")
        self._socket.bind("/dev/log")
        os.chmod("/dev/log", 0o666)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._mark(END)
        self._thread.join()
        self._socket.close()
        os.rename("/dev/log.kept", "/dev/log")

    def lines(self) -> list[str]:
        """What has been sent since the last time."""
        self._sent.clear()
        self._mark(b"")
        self._sent.wait(10)
        found = [line.decode("utf-8", "replace") for line in self._lines]
        self._lines.clear()
        return found

    def _mark(self, text: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text, "/dev/log")

    def _receive(self) -> None:
        # Datagrams keep their order, so what was sent before a mark has come when the mark has.
        while (line := self._socket.recv(1 << 20)) != END:
            if line:
                self._lines.append(line)
            else:
                self._sent.set()
