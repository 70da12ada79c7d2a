"""Publishing, once or for ever."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.errors import PamTotpError
from pam_totp.host import clock

if TYPE_CHECKING:
    import argparse

EVERY = 1.0  # seconds between two looks for changes
AFTER_AN_ERROR = 10.0
TIDY_EVERY = 3600


def arguments(parser: argparse.ArgumentParser) -> None:
    """Whether it stays."""
    parser.add_argument("--watch", action="store_true", help="stay, and publish whenever something changes")


def run(arguments: argparse.Namespace) -> int:
    """Publish."""
    if os.geteuid() == common.account(config.USER)[0]:
        common.setup()
    else:
        common.django()
    if arguments.watch:
        _watch()
    from django.utils import timezone

    from pam_totp.directory import publish

    count = 0
    while done := publish.once(timezone.now(), days=config.load().manifest_days):
        count += done
    print(f"published for {count} host{'' if count == 1 else 's'}")
    return 0


def _watch() -> None:
    from django.db import Error, close_old_connections
    from django.utils import timezone

    from pam_totp.directory import publish

    found, tidied = config.load(), 0.0
    while True:
        now = timezone.now()
        try:
            # What is left over of a large change has its turn at once.
            pause = 0.0 if publish.once(now, days=found.manifest_days) else EVERY
            publish.checkpoint()
            if now.timestamp() - tidied > TIDY_EVERY:
                publish.tidy(now, found.events_days)
                tidied = now.timestamp()
        except (PamTotpError, Error, OSError) as error:
            print(f"nothing published: {error}", file=sys.stderr, flush=True)
            close_old_connections()
            pause = AFTER_AN_ERROR
        clock.pause(pause)
