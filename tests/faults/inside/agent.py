"""Calls functions of this package for whoever holds the other end: one JSON line in, one JSON line out."""

from __future__ import annotations

import importlib
import json
import os
import traceback


def main() -> None:
    """Serve `[module, function, arguments]` until the input ends; what is printed meanwhile goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    for line in requests:
        module, function, arguments = json.loads(line)
        try:
            call = getattr(importlib.import_module(f"tests.faults.inside.{module}"), function)
            reply = {"result": call(**arguments)}
        except Exception:  # noqa: BLE001 - whoever asked gets the traceback
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
