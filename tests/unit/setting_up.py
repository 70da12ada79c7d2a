"""An sshd and a systemd that a test of ``setup`` commands, in the place of this machine's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pam_totp.host import arrange, logins, sshd, systemd
from pam_totp.host.programs import ProgramError

if TYPE_CHECKING:
    import pytest

    from tests.unit.pretend import Host

STACK = "@include common-auth\naccount required pam_nologin.so\n@include common-account\n"
COMMON = "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n"


class Server:
    """Reads the drop-ins below the host's directory as sshd does: the first value of a keyword counts."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.valid = True
        self.reloads = 0
        self.reloadable = True
        self.systemd = False
        self.timers: list[int] = []
        self.stack = f"{host.paths.services}/sshd"
        self.drop_in = f"{host.paths.drop_ins}/00-pam-totp.conf"
        for directory in (host.paths.services, host.paths.drop_ins):
            os.makedirs(directory)
        for name, text in (("sshd", STACK), ("common-auth", COMMON), ("common-account", "")):
            self.write(f"{host.paths.services}/{name}", text)
        for module, name, fake in (
            (arrange, "installed", lambda _: True),
            (logins, "all_of_them", lambda _: []),
            (sshd, "check", self.check),
            (sshd, "effective", self.effective),
            (sshd, "reload", self.reload),
            (systemd, "running", lambda: self.systemd),
            (systemd, "start_timer", self.timers.append),
            (systemd, "stop_timer", self.timers.clear),
        ):
            monkeypatch.setattr(module, name, fake)

    def write(self, path: str, text: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)

    def read(self, path: str) -> str:
        with open(path, encoding="utf-8") as file:
            return file.read()

    def state(self) -> dict[str, tuple[int, str]]:
        """All files of PAM's and sshd's."""
        places = (self.host.paths.services, self.host.paths.drop_ins)
        paths = sorted(f"{place}/{name}" for place in places for name in os.listdir(place))
        return {path: (os.stat(path).st_mode, self.read(path)) for path in paths}

    def check(self) -> None:
        if not self.valid:
            raise ProgramError("sshd -t says: bad configuration option")

    def effective(self) -> dict[str, str]:
        self.check()
        found = {"usepam": "yes", "kbdinteractiveauthentication": "no", "passwordauthentication": "yes"}
        said: set[str] = set()
        for name in sorted(os.listdir(self.host.paths.drop_ins)):
            for line in self.read(f"{self.host.paths.drop_ins}/{name}").splitlines():
                keyword, _, value = line.strip().partition(" ")
                if keyword == "Match":
                    break
                if keyword and not keyword.startswith("#") and keyword.lower() not in said:
                    said.add(keyword.lower())
                    found[keyword.lower()] = value
        return found

    def reload(self) -> str:
        if not self.reloadable:
            raise ProgramError("systemctl reload ssh.service says: no")
        self.reloads += 1
        return "kill -HUP 1"
