"""Serves the directory for a scanner, until standard input ends; prints who is signed in, as cookies."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import django

from pam_totp.directory import config

if TYPE_CHECKING:
    from pam_totp.directory.models import Person

# Whatever the scanner presses: who was signed out, or has another password, is signed in again so soon.
_SECONDS = 0.5
# What the forms' tokens are made of.
CSRF = "s" * 32


def main() -> None:
    """Serve."""
    # The web process reads the same key, so that it knows the sessions that are made here.
    Path(config.SESSION_KEY).parent.mkdir(parents=True, exist_ok=True)
    Path(config.SESSION_KEY).write_text(secrets.token_hex(32), encoding="ascii")
    django.setup()
    from tests.directory.browser.site import Site

    with Site(Path(tempfile.mkdtemp())) as site:
        people = {"user": site.alice.person, "administrator": site.boss.person}
        keys = {role: secrets.token_hex(16) for role in people}
        for role, key in keys.items():
            sign_in(key, people[role])
        cookies = {role: f"__Host-session={key}; __Host-csrf={CSRF}" for role, key in keys.items()}
        print(json.dumps({"url": site.url, "cookies": cookies}), flush=True)
        ended = threading.Event()

        def wait() -> None:
            sys.stdin.read()
            ended.set()

        threading.Thread(target=wait, daemon=True).start()
        while not ended.wait(_SECONDS):
            for role, key in keys.items():
                sign_in(key, people[role])


def sign_in(key: str, person: Person) -> None:
    """Have a session with this key, of somebody who has just typed a code."""
    from django.contrib import auth
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    from pam_totp.directory.portal import visit
    from pam_totp.host import clock

    person.refresh_from_db()
    content = {
        auth.SESSION_KEY: str(person.pk),
        auth.BACKEND_SESSION_KEY: visit.BACKEND,
        auth.HASH_SESSION_KEY: person.get_session_auth_hash(),
        visit.CODE_AT: int(clock.now().wall),
        visit.BEGAN: int(clock.now().wall),
    }
    kept = {"session_data": SessionStore().encode(content), "expire_date": timezone.now() + timedelta(hours=1)}
    Session.objects.update_or_create(session_key=key, defaults=kept)


if __name__ == "__main__":
    main()
