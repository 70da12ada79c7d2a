"""Serves the directory for a scanner, until standard input ends; prints who is signed in, as cookies, and all pages."""

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
    from tests.directory.browser.site import PORT, Site
    from tests.directory.browser.sparing import Proxy

    scratch = Path(tempfile.mkdtemp())
    with Site(scratch) as site:
        people = {"user": site.alice.person, "administrator": site.boss.person}
        keys = {role: secrets.token_hex(16) for role in people}
        for role, key in keys.items():
            sign_in(key, people[role])
        cookies = {role: f"__Host-session={key}; __Host-csrf={CSRF}" for role, key in keys.items()}
        own = f"/admin/directory/person/{site.boss.person.pk}"
        proxy = Proxy(scratch, PORT, {"/logout/", f"{own}/change/", f"{own}/delete/"})
        print(json.dumps({"url": proxy.url, "cookies": cookies, "pages": pages()}), flush=True)
        ended = threading.Event()

        def wait() -> None:
            sys.stdin.read()
            ended.set()

        threading.Thread(target=wait, daemon=True).start()
        while not ended.wait(_SECONDS):
            for role, key in keys.items():
                sign_in(key, people[role])


def pages() -> list[str]:
    """Every page of both portals, of something that there is."""
    from django.contrib import admin

    from tests.directory.inside import test_portal_security as table

    things = {str(model._meta.model_name): model._default_manager.first() for model in admin.site._registry}
    of = {name: thing.pk for name, thing in things.items() if thing is not None} | {"authenticator": "a" * 32}
    return sorted(table.address_of(name, path, of) for name, path in table.pages().items())


def sign_in(key: str, person: Person) -> None:
    """Have a session with this key, of somebody who has just typed a code; whatever the scanner has done to the two."""
    from django.contrib import auth
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    from pam_totp.directory.portal import visit
    from pam_totp.host import clock

    kept = {"is_active": True, "locked": False, "role": person.role, "forget_before": None, "password": person.password}
    type(person).objects.filter(pk=person.pk).update(**kept)
    content = {
        auth.SESSION_KEY: str(person.pk),
        auth.BACKEND_SESSION_KEY: visit.BACKEND,
        auth.HASH_SESSION_KEY: person.get_session_auth_hash(),
        visit.CODE_AT: int(clock.now().wall),
        visit.BEGAN: int(clock.now().wall),
    }
    session = {"session_data": SessionStore().encode(content), "expire_date": timezone.now() + timedelta(hours=1)}
    Session.objects.update_or_create(session_key=key, defaults=session)


if __name__ == "__main__":
    main()
