"""What tests of the portals share: people with a browser and an app."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyotp
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.test import Client

from pam_totp.directory.keeper import client as keeper_client
from pam_totp.directory.models import Authenticator, Person

if TYPE_CHECKING:
    from tests.directory.inside.conftest import Keeper

# As Argon2 as ever, and not as slow: hundreds of passwords are typed here.
Argon2PasswordHasher.time_cost, Argon2PasswordHasher.memory_cost, Argon2PasswordHasher.parallelism = 1, 64, 1
PASSWORD = "correct horse battery staple"


@dataclass
class Somebody:
    """A person, the key in the person's app, and a browser without scripts."""

    person: Person
    keeper: Keeper
    key: str = ""
    browser: Client = field(default_factory=Client)

    @property
    def name(self) -> str:
        return self.person.name

    def code(self) -> str:
        """The app's next code: one that was never typed."""
        self.keeper.time.ahead += 30
        return self.code_now()

    def code_now(self) -> str:
        """The app's code, of the keeper's time."""
        return pyotp.TOTP(self.key).at(int(self.keeper.time.now().wall))

    def get(self, path: str, **words: Any) -> Any:
        return self.browser.get(path, secure=True, **words)

    def post(self, path: str, data: dict[str, Any] | None = None, **words: Any) -> Any:
        return self.browser.post(path, data or {}, secure=True, **words)

    def password(self, password: str = PASSWORD, path: str = "/login/") -> Any:
        return self.post(path, {"name": self.name, "password": password})

    def sign_in(self) -> Any:
        """Password and code."""
        assert self.password().headers["Location"] == "/login/code/"
        return self.post("/login/code/", {"code": self.code()})

    def scan(self, path: str) -> str:
        """Take the key that a page shows into the app."""
        found = re.search(r'name="key" value="([A-Z2-7]+)"', self.get(path).content.decode())
        assert found
        self.key = found[1]
        return self.key

    def finish(self, path: str, code: str | None = None, label: str = "phone") -> Any:
        """Type the first code."""
        return self.post(path, {"label": label, "code": code or self.code(), "key": self.key})


def somebody(keeper: Keeper, name: str = "alice", *, enrolled: bool = True, **fields: Any) -> Somebody:
    """A person with a password, and with an authenticator."""
    made = Somebody(Person.objects.create_user(name, PASSWORD, **fields), keeper)
    if enrolled:
        enrol(made)
    return made


def enrol(made: Somebody, label: str = "phone") -> Authenticator:
    """An authenticator that the keeper has made."""
    answer = keeper_client.ask("new", person=made.person.pk)
    made.key = answer["key"]
    return Authenticator.objects.create(
        ident=answer["id"],
        person=made.person,
        label=label,
        state=Authenticator.State.ACTIVE,
        secret=keeper_client.content(answer["sealed"]),
    )
