"""FreeRADIUS's settings below a directory, and a FreeRADIUS that likes them or does not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pam_totp.host import programs, systemd
from pam_totp.verify import freeradius

if TYPE_CHECKING:
    import pytest

    from tests.unit.pretend import Host

CLIENTS = """\
# client example {
client localhost {
	ipaddr = 127.0.0.1
	secret = testing123
}
client vpn {
	ipaddr = 192.0.2.1
	secret = "a secret of the site's"
	require_message_authenticator = no
}
client "wlan" { # the access points
	ipaddr = 192.0.2.2
	secret = another
}
"""


class Tree:
    """``/etc/freeradius/3.0``. ``refuses`` is what FreeRADIUS says of settings of ours; empty where it takes them."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = f"{host.root}/etc/freeradius/3.0"
        self.refuses = ""
        self.checks = 0
        for name in ("mods-available", "mods-enabled", "mods-config", "sites-available", "sites-enabled"):
            os.makedirs(self.path(name))
        for name in ("files", "pap", "pam", "mschap"):
            self.write(f"mods-enabled/{name}", f"{name} {{\n}}\n")
        self.write("mods-enabled/eap", "eap {\n\tpeap {\n\t\tdefault_eap_type = gtc\n\t}\n}\n")
        self.write("clients.conf", CLIENTS)
        monkeypatch.setattr(freeradius, "PLACE", self.place)
        monkeypatch.setattr(freeradius, "REST", self.path("clients.conf"))
        monkeypatch.setattr(programs, "answered", self._answered)
        monkeypatch.setattr(systemd, "running", lambda: False)

    def _answered(self, _: str, *command: str) -> tuple[int, str]:
        assert command[-2:] == ("freeradius", "-XC")
        self.checks += 1
        ours = os.path.lexists(self.path("sites-enabled/pam-totp"))
        return (1, self.refuses) if self.refuses and ours else (0, "Configuration appears to be OK\n")

    def path(self, name: str) -> str:
        return f"{self.place}/{name}"

    def read(self, name: str) -> str:
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def write(self, name: str, text: str) -> None:
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), 0o640)

    def state(self) -> dict[str, object]:
        """All files, with their modes, and links."""
        found: dict[str, object] = {}
        for directory, _, names in os.walk(self.place):
            for name in names:
                path = f"{directory}/{name}"
                link = os.path.islink(path)
                found[path] = (
                    os.readlink(path) if link else (os.stat(path).st_mode, self.read(path[len(self.place) + 1 :]))
                )
        return found
