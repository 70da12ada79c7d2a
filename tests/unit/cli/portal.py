"""LemonLDAP::NG's settings below a directory, and its command, which tells the newest version."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pam_totp.host import programs, systemd
from pam_totp.verify import lemonldap

if TYPE_CHECKING:
    import pytest

    from tests.unit.pretend import Host

INI = """\
[all]
checkTime = 1
type=CDBI
[configuration]
; type=CDBI
type=File
dirName = {place}
localStorageOptions={{                             \\
    'namespace'          => 'lemonldap-ng-config',\\
}}
[portal]
dirName = /nonexistent
"""
# As Perl writes it: UTF-8, of which each byte is a character, or an escape.
FIRST = b"""\
{
   "cfgNum" : 1,
   "cfgDate" : "1627287638",
   "authentication" : "LDAP",
   "title" : "Caf\xc3\xa9 \\u20ac \\ud83d\\ude00",
   "key" : "secret of the site"
}
"""


class Portal:
    """``/var/lib/lemonldap-ng/conf``. ``fails``: the portal does not take what is there."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = f"{host.root}/conf"
        self.ini = f"{host.root}/lemonldap-ng.ini"
        self.fails = False
        os.makedirs(self.place, mode=0o750)
        self.write(1, FIRST)
        self.configure(INI.format(place=self.place))
        monkeypatch.setattr(lemonldap, "INI", self.ini)
        monkeypatch.setattr(lemonldap, "COMMAND", self.ini)  # something that is there
        monkeypatch.setattr(programs, "answered", self._answered)
        monkeypatch.setattr(systemd, "running", lambda: False)

    def _answered(self, _: str, *command: str) -> tuple[int, str]:
        assert command == (self.ini, "update-cache")
        newest = max(self.versions())
        return 0, f"Cache updated to configuration {newest - self.fails} for user 33\n"

    def configure(self, text: str) -> None:
        with open(self.ini, "w", encoding="utf-8") as file:
            file.write(text)

    def path(self, number: int) -> str:
        return f"{self.place}/lmConf-{number}.json"

    def versions(self) -> dict[int, bytes]:
        found = {}
        for name in os.listdir(self.place):
            with open(f"{self.place}/{name}", "rb") as file:
                found[int(name.removeprefix("lmConf-").removesuffix(".json"))] = file.read()
        return found

    def write(self, number: int, content: bytes) -> None:
        with open(self.path(number), "wb") as file:
            file.write(content)
        os.chmod(self.path(number), 0o644)

    def settings(self, number: int) -> Any:
        """What Perl would see: characters that are bytes."""
        return json.loads(self.versions()[number].decode("latin-1"))

    def save(self, number: int, **changed: object) -> None:
        """What the manager does: the newest settings, with changes, as a version of its own."""
        new = self.settings(max(self.versions())) | {"cfgNum": number, **changed}
        self.write(number, json.dumps(new).encode("ascii"))
