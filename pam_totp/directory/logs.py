"""How what Django logs is written: one line for each message, and no invitation in it."""

from __future__ import annotations

import logging
import re

# Whoever reads the log could use the link before its owner does.
_INVITATION = re.compile(r"(/invitation/)[^/\s\\]+")


class Formatter(logging.Formatter):
    """Django tells of addresses that strangers have typed."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # so it is called there
        """The message, without signs that would begin another line."""
        text = super().formatMessage(record)
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)

    def format(self, record: logging.LogRecord) -> str:
        """All of it, with the traceback."""
        return _INVITATION.sub(r"\1...", super().format(record))
