"""key: says how the host key is kept, rotates, seals and unseals it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import keys
from pam_totp.host import files, systemd
from tests.unit.cache.test_binding import Creds, creds
from tests.unit.pretend import ALICE

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

__all__ = ["creds"]  # the fixture


def test_a_plain_key_is_told_to_be_bound_to_nothing(command: Command, host: Host) -> None:
    ran = command("key", "status")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"key       {host.paths.key}",
        "sealed    no: whoever can read the file has the key",
        "bound to  nothing",
        "rotated   never",
    ]
    assert command("key", "status", "--json").json == {
        "path": host.paths.key,
        "sealed": None,
        "bound": [],
        "recorded": [],
        "tpm2": os.path.exists("/dev/tpmrm0"),
        "rotated": False,
        "problems": [],
    }


def test_a_rotation_is_logged_and_told(command: Command, host: Host, journal: list[tuple[int, str]]) -> None:
    secret = host.enroll()
    ran = command("key", "rotate")
    assert (ran.code, ran.err) == (0, "")
    assert "the key is a new one (516 values were sealed anew), and the former one is destroyed" in ran.out
    assert [line for _, line in journal if "action=key-rotate" in line]
    assert "rotated   yes" in command("key", "status").out
    assert command("status").code == 0
    assert host.login("alice", host.code(secret)).reason == "code"
    os.rename(host.paths.key, f"{host.paths.key}.next")
    with open(f"{host.paths.key}.former", "x", encoding="ascii") as file:
        file.write("left by a killed one")
    ran = command("key", "status")
    assert ran.code == 1
    assert "warning: a rotation goes on or was killed" in ran.out
    ran = command("key", "rotate")
    assert ran.out == "what was begun before has ended: the former key is destroyed\n"


def test_a_key_that_opens_nothing_is_exit_status_3(command: Command, host: Host) -> None:
    os.unlink(host.paths.key)
    keys.create(host.paths.key)
    ran = command("key", "status")
    assert ran.code == 3
    assert "error: the host key does not belong to this cache" in ran.out
    assert command("key", "rotate").code == 3
    os.unlink(host.paths.key)
    assert "none that logins could read" in command("key", "status").out


def test_it_is_sealed_told_and_put_back(
    command: Command, host: Host, creds: Creds, journal: list[tuple[int, str]]
) -> None:
    creds.tpm = "one"
    ran = command("key", "seal")
    assert (ran.code, ran.err) == (0, "")
    assert f"the key is sealed in {host.paths.key}.cred, and bound to this host's key and its TPM2" in ran.out
    assert "keep a plain copy" in ran.out
    assert command("key", "seal").out == "nothing to do: the key is sealed, and bound to this host's key and its TPM2\n"
    assert f"sealed    in {host.paths.key}.cred" in command("key", "status").out
    assert command("init").code == 0
    assert command("status").code == 0
    assert command("key", "unseal", "--boot").out == f"the key is unsealed to {host.paths.unsealed}\n"
    assert f"the key is in {host.paths.key} again" in command("key", "unseal").out
    assert command("key", "unseal").out == f"nothing to do: {host.paths.key} is there in the clear\n"
    assert command("key", "unseal", "--boot").out == "nothing to do: the key is not sealed\n"
    actions = [word for _, line in journal for word in line.split() if word.startswith("action=")]
    assert actions == ["action=key-seal", "action=key-unseal"]


def test_less_than_before_is_refused_told_and_an_alert_at_boot(
    command: Command, host: Host, creds: Creds, journal: list[tuple[int, str]]
) -> None:
    creds.tpm = "one"
    command("key", "seal")
    with open(host.paths.unsealed, "rb") as file:
        weaker = creds.encrypt(file.read(), frozenset({"host"}))
    os.unlink(f"{host.paths.key}.cred")
    files.write_new(f"{host.paths.key}.cred", weaker, 0o400)
    assert command("key", "unseal", "--boot").code == 0
    (alert,) = [line for _, line in journal if "action=key-bound-to-less" in line]
    assert "was bound to this host's key and its TPM2, and is bound to this host's key now" in alert
    ran = command("key", "status")
    assert ran.code == 1
    assert "error: the key was bound to" in ran.out
    creds.tpm = None
    assert command("key", "seal").code == 3
    assert command("key", "seal", "--without-tpm2").code == 0
    assert command("key", "status").code == 0


def test_without_systemd_or_the_unit_it_stays_plain(
    command: Command, host: Host, creds: Creds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "enabled", lambda _: False)
    assert "systemctl enable pam-totp-unseal.service" in command("key", "seal").err
    monkeypatch.setattr(systemd, "running", lambda: False)
    ran = command("key", "seal")
    assert (ran.code, "systemd does not run here" in ran.err) == (3, True)
    assert os.path.exists(host.paths.key)


def test_a_host_with_a_sealed_key_and_no_cache_is_not_set_up_anew(command: Command, host: Host, creds: Creds) -> None:
    command("key", "seal")
    os.unlink(host.paths.unsealed)
    for name in (host.paths.cache, f"{host.paths.cache}-journal"):
        os.unlink(name)
    ran = command("init")
    assert (ran.code, "is there but the cache" in ran.err) == (3, True)


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--boot"),
        ("status", "--without-tpm2"),
        ("rotate", "--json"),
        ("seal", "--boot"),
        ("unseal", "--without-tpm2"),
    ],
)
def test_an_option_of_another_action_is_refused(words: tuple[str, ...], command: Command) -> None:
    ran = command("key", *words)
    assert (ran.code, "leave it out" in ran.err) == (2, True)


def test_no_secret_is_printed(command: Command, host: Host, creds: Creds) -> None:
    secret = host.enroll(ALICE)
    shown = ""
    for words in (("seal",), ("rotate",), ("status",), ("status", "--json"), ("unseal", "--boot"), ("unseal",)):
        for path in (host.paths.key, host.paths.unsealed):
            if os.path.exists(path):
                with open(path, encoding="ascii") as file:
                    kept = file.read().split()[1:]
        ran = command("key", *words)
        shown += ran.out + ran.err
        assert not [each for each in kept if each in shown]
    assert secret.hex() not in shown
