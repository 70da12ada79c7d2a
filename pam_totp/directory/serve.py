"""The web process: gunicorn's processes, each with uvicorn, and the settings of directory.toml.

A connection on which nothing comes costs a few kilobytes and no thread, and ends soon. So strangers who open many keep
nobody out, and the agents of a fleet may keep theirs.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.workers import UvicornWorker

if TYPE_CHECKING:
    from django.core.handlers.asgi import ASGIHandler

    from pam_totp.directory.config import Config

# For each process: more are told to come again.
MOST_CONNECTIONS = 8192
# Bytes of a request's first line and headers, and seconds until they are there.
LONGEST_HEAD = 64 << 10
HEAD_SECONDS = 30.0
# For so long a thread has the interpreter while others wait for it. A claim does so several times, on its way back from
# the database; at 5 ms, as Python has it, its p99 is a third more.
SWITCH_SECONDS = 0.001


class Connection(HttpToolsProtocol):  # type: ignore[misc]  # it has no types here
    """A connection that ends where no whole head of a request has come for so long, or in so many bytes.

    Uvicorn waits for ever for a first one, and for one that has begun, and its parser keeps all of what has no end:
    strangers would hold them all at no cost.
    """

    _head: int | None = 0  # so many bytes of one have come; None: it is complete
    _waiting: Any = None

    def connection_made(self, transport: Any) -> None:
        """It has begun."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin with a request."""
        self._head = 0
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Have its head."""
        self._head = None
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Have all of it."""
        super().on_message_complete()
        self._head = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class Worker(UvicornWorker):  # type: ignore[misc]  # it has no types here
    """A process that answers requests."""

    CONFIG_KWARGS = {  # noqa: RUF012  # as uvicorn has it
        # Both in C: half of what a request cost.
        "loop": "uvloop",
        "http": Connection,
        "ws": "none",
        "lifespan": "off",
        "proxy_headers": False,
        "server_header": False,
        # Agents keep their connection, for claims.
        "timeout_keep_alive": 75,
        "limit_concurrency": MOST_CONNECTIONS,
    }

    def run(self) -> None:
        """Answer until the end."""
        sys.setswitchinterval(SWITCH_SECONDS)
        super().run()


class Web(BaseApplication):  # type: ignore[misc]  # the same
    """Gunicorn, without a command line or a file of its own."""

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__()

    def load_config(self) -> None:
        """What gunicorn is to do."""
        settings: dict[str, Any] = {
            "bind": self._config.listen,
            "certfile": self._config.certificate,
            "keyfile": self._config.certificate_key,
            "workers": self._config.workers,
            "worker_class": Worker,
            "timeout": 60,
            "graceful_timeout": 10,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108  # files without a name, that only their time is taken of
            "proc_name": "pam-totp-directory",
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> ASGIHandler:
        """The application, in each worker anew."""
        os.environ["DJANGO_SETTINGS_MODULE"] = "pam_totp.directory.settings"
        from pam_totp.directory.asgi import application

        return application
