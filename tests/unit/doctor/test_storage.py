"""Room, copies and backups of key and cache; the rest is tried in a real Debian (tests/doctor)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.doctor import storage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.pretend import Host


def ids(host: Host) -> list[str]:
    return [each.identifier for each in storage.findings(host.paths)]


def test_what_init_makes_has_no_findings(host: Host) -> None:
    host.enroll()
    assert ids(host) == []


@pytest.mark.parametrize(("break_", "identifier"), [("key", "key-missing"), ("cache", "cache-missing")])
def test_what_is_gone_has_no_command_because_only_a_backup_has_it(host: Host, break_: str, identifier: str) -> None:
    os.unlink(getattr(host.paths, break_))
    [each] = storage.findings(host.paths)
    assert (each.identifier, each.mend) == (identifier, "")


def test_a_key_of_another_host_is_told(host: Host) -> None:
    host.enroll()
    with open(host.paths.key, encoding="ascii") as file:
        fields = file.read().split()
    os.unlink(host.paths.key)
    with open(host.paths.key, "w", encoding="ascii") as file:
        file.write(f"{fields[0]} {fields[1]} {'0' * 64}\n")
    os.chmod(host.paths.key, 0o400)
    assert ids(host) == ["key-wrong"]
    os.chmod(host.paths.key, 0o600)
    with open(host.paths.key, "w", encoding="ascii") as file:
        file.write("no key\n")
    assert ids(host) == ["key-malformed"]


def test_a_disk_with_little_room_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LEAST_ROOM", 1 << 60)
    assert ids(host) == ["disk-full"]


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("source_directories:\n  - /etc\n  - /var/lib\n", True),
        ("source_directories:\n  - '/'\n", True),
        ("source_directories:\n  - /etc\n", False),
        ("source_directories:\n  - /etc\n  - /var\nexclude_patterns:\n  - KEY\n", False),
        ("# /etc /var/lib\n", False),
    ],
)
def test_a_backup_of_both_is_told(host: Host, tmp_path: Path, text: str, both: bool) -> None:
    root = host.root
    text = text.replace("/etc", f"{root}/etc").replace("/var", f"{root}/var").replace("KEY", host.paths.key)
    (tmp_path / "borgmatic.yaml").write_text(text)
    assert storage._backs_up_both(str(tmp_path / "borgmatic.yaml"), host.paths) is both
