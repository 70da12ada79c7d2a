"""The record of what was put in force, and whether it still is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.host import arrange, pinned
from pam_totp.host.pinned import Pin, Revert
from pam_totp.host.rewrite import State
from tests.unit.pretend import BOOT
from tests.unit.setting_up import STACK, Server

if TYPE_CHECKING:
    from tests.unit.pretend import Host


@pytest.fixture
def server(host: Host, monkeypatch: pytest.MonkeyPatch) -> Server:
    """With the variant `key` in force."""
    server = Server(host, monkeypatch)
    pin = Pin("sshd", "key", "pam_totp", [])
    arrange.put_in_force(host.paths, pin, arrange.changes(host.paths, pin), None, host.now)
    return server


def losses(server: Server) -> str:
    return "; ".join(pinned.losses(server.host.paths, "sshd"))


def edit(server: Server, old: str, new: str) -> None:
    text = server.read(server.stack)
    assert old in text
    server.write(server.stack, text.replace(old, new))


LINE = "auth required pam_totp.so first_factor=publickey"


def test_in_force_nothing_is_missing(server: Server) -> None:
    assert losses(server) == ""
    edit(server, LINE, LINE.replace(" ", "\t ", 1))
    server.write(server.stack, "auth required pam_access.so\n" + server.read(server.stack) + "# a comment\n")
    assert losses(server) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (LINE, "#" + LINE, "is missing"),
        (LINE, LINE.replace("required", "optional"), "is missing"),
        (LINE, LINE.replace(" first_factor=publickey", ""), "is missing"),
        (LINE, "auth sufficient pam_permit.so\n" + LINE, "can skip it"),
        (LINE, "auth [success=1 default=ignore] pam_unix.so\n" + LINE, "can skip it"),
        (
            "@include common-account",
            "auth [default=reset] pam_unix.so\n@include common-account",
            "takes its refusal back",
        ),
        ("@include common-account", "@include common-account\n@include gone", "gone, which is missing"),
    ],
)
def test_a_line_that_is_gone_or_does_not_decide_is_missing(old: str, new: str, said: str, server: Server) -> None:
    edit(server, old, new)
    assert said in losses(server)


def test_the_distributions_file_in_its_place_is_noticed(server: Server) -> None:
    server.write(server.stack, STACK)
    assert "is missing" in losses(server)


@pytest.mark.parametrize("kind", ["removed", "symlink", "writable"])
def test_a_file_that_cannot_be_trusted_is_a_loss(kind: str, server: Server) -> None:
    if kind == "writable":
        os.chmod(server.stack, 0o666)
    else:
        os.rename(server.stack, server.stack + ".real")
        if kind == "symlink":
            os.symlink(server.stack + ".real", server.stack)
    assert losses(server) != ""


def test_what_sshd_has_in_force_instead_is_named(server: Server) -> None:
    server.write(f"{server.host.paths.drop_ins}/00-a.conf", "AuthenticationMethods any\n")
    assert "sshd has AuthenticationMethods any in force" in losses(server)
    server.valid = False
    assert "cannot be said" in losses(server)


def test_what_was_never_set_up_misses_nothing(host: Host) -> None:
    assert pinned.losses(host.paths, "sshd") == []
    assert pinned.services(host.paths) == []


def test_the_record_is_kept_as_it_is_and_private(host: Host) -> None:
    revert = Revert(BOOT, 5.5, {"/etc/pam.d/sshd": State(b"\xff", 0o640, 0, 4, {"user.a": b"\0"})}, None, 2.0)
    pinned.save(host.paths, Pin("sshd", "combined", "pam_python", ["a@::1"], enforce=True, revert=revert))
    path = f"{os.path.dirname(host.paths.cache)}/setup/sshd.json"
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    pin = pinned.load(host.paths, "sshd")
    assert pin is not None
    assert pin.plain() == Pin("sshd", "combined", "pam_python", ["a@::1"], enforce=True, revert=revert).plain()
    assert pinned.services(host.paths) == ["sshd"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "variant": "none", "engine": "pam_totp"}', "\udcff"]
)
def test_a_record_that_is_not_understood_is_named(content: str, host: Host) -> None:
    pinned.save(host.paths, Pin("sshd", "key", "pam_totp", []))
    path = f"{os.path.dirname(host.paths.cache)}/setup/sshd.json"
    with open(path, "wb") as file:
        file.write(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(pinned.SetupError, match=r"sshd\.json"):
        pinned.losses(host.paths, "sshd")


def test_a_time_is_over_when_its_timer_runs_or_after_a_boot(host: Host) -> None:
    revert = Revert(BOOT, host.uptime + 60, {}, None)
    assert not revert.due(host.now())
    host.later(60)
    assert revert.due(host.now())
    host.reboot(1)
    assert revert.due(host.now())
