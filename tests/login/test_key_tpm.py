"""A key that is sealed to a TPM2: in a virtual machine with swtpm, across reboots, with another TPM and with none."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.code import code
from tests.lab.package import installed
from tests.lab.vagrant.scratch import scratch
from tests.lab.virtual import KERNEL, TPM, Virtual

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.full

KEY, SEALED, UNSEALED = "/etc/pam-totp/key", "/etc/pam-totp/key.cred", "/run/pam-totp-key/key"
UNIT = "pam-totp-unseal.service"


@pytest.fixture
def virtual(suite: str, debs: tuple[Path, ...]) -> Iterator[Virtual]:
    """A virtual machine with the packages, switched off."""
    with scratch() as directory, Virtual(installed(suite, debs, (*KERNEL, *TPM[suite])), directory) as machine:
        yield machine


class Alice:
    """alice, who is enrolled and types a code of a further step at each login."""

    def __init__(self, virtual: Virtual) -> None:
        self._virtual = virtual
        self._step = 0
        virtual.run("pam-totp setup --variant key --yes")
        self._secret = json.loads(virtual.run("pam-totp enroll alice --no-confirm --json"))["secret"]
        virtual.run("echo 'window = 10' >/etc/pam-totp/config.toml")
        virtual.run("pam-totp confirm alice", given=self._code() + "\n")

    def _code(self) -> str:
        # Boots take longer than a step, so it is always a later one.
        self._step += 1
        return code(self._secret, time.time() + 30 * min(self._step, 5))

    def gets_in(self) -> bool:
        wrong = self._virtual.login("000000")
        assert wrong.asked_code
        assert not wrong.ok
        self._virtual.run("pam-totp unlock alice")
        return self._virtual.login(self._code()).ok

    def refused(self) -> str:
        assert not self._virtual.login(code(self._secret, time.time() + 180)).ok
        return self._virtual.run("journalctl --quiet --output=cat --no-pager -g 'pam_totp[(]sshd' | tail -n 1")


def status(virtual: Virtual) -> Any:
    return json.loads(virtual.run("pam-totp key status --json", check=False))


def problems(virtual: Virtual) -> set[str]:
    return {each["id"] for each in status(virtual)["problems"]}


def test_a_key_sealed_to_a_tpm_opens_on_this_host_alone(virtual: Virtual) -> None:
    virtual.start("first")
    alice = Alice(virtual)
    assert alice.gets_in()
    plain = virtual.run(f"cat {KEY}")
    assert "this host's key and its TPM2" in virtual.run("pam-totp key seal")
    assert status(virtual)["bound"] == ["host", "tpm2"]
    assert problems(virtual) == set()
    assert "No such file" in virtual.run(f"cat {KEY}", check=False)

    # A reboot
    virtual.reboot()
    assert virtual.run(f"cat {UNSEALED}") == plain
    assert problems(virtual) == set()
    assert alice.gets_in()

    # A rotation, and a reboot
    virtual.run("pam-totp key rotate")
    assert status(virtual)["bound"] == ["host", "tpm2"]
    virtual.reboot()
    rotated = virtual.run(f"cat {UNSEALED}")
    assert rotated != plain
    assert alice.gets_in()

    # Another TPM: sshd starts, and refuses
    virtual.stop()
    virtual.start("second")
    assert virtual.run("systemctl is-active ssh.service").strip() == "active"
    assert virtual.run(f"systemctl is-failed {UNIT}").strip() == "failed"
    assert "reason=key-sealed" in alice.refused()
    assert problems(virtual) == {"key-unusable", "key-not-openable"}
    assert "systemd-creds decrypt" in virtual.run("pam-totp key unseal --boot", check=False)

    # The first one again
    virtual.stop()
    virtual.start("first")
    assert problems(virtual) == set()
    assert alice.gets_in()

    # None: with the backup logins go on at once, but it is not sealed to less without being told to
    virtual.stop()
    virtual.start()
    assert "reason=key-sealed" in alice.refused()
    virtual.run(f"install -m 400 /dev/stdin {KEY}", given=rotated)
    assert alice.gets_in()
    assert {"key-plain", "key-bound-to-less"} <= problems(virtual)
    said = virtual.run("pam-totp key seal", check=False)
    assert "--without-tpm2" in said
    assert virtual.run(f"cat {KEY}") == rotated
    virtual.run("pam-totp key seal --without-tpm2")
    assert status(virtual)["bound"] == ["host"]
    assert problems(virtual) == set()
    virtual.reboot()
    assert alice.gets_in()

    # A TPM that is there and not used is told, and used when it is sealed anew
    virtual.stop()
    virtual.start("second")
    assert alice.gets_in()
    assert problems(virtual) == {"key-tpm2-unused"}
    virtual.run("pam-totp key seal")
    assert status(virtual)["bound"] == ["host", "tpm2"]
    virtual.reboot()
    assert alice.gets_in()
