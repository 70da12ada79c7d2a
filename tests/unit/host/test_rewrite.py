"""Files that are changed in one step, with all that goes with them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.host import rewrite
from pam_totp.host.files import UnsafeFileError
from pam_totp.host.rewrite import State
from tests.unit.places import KINDS, ME, foreign, replace

if TYPE_CHECKING:
    from pathlib import Path


def test_content_mode_owner_and_attributes_come_back(tmp_path: Path) -> None:
    file = tmp_path / "sshd"
    file.write_bytes(b"\xff\x00old")
    file.chmod(0o640)
    if ME == 0:
        os.chown(file, 0, 4)
        os.setxattr(file, "trusted.note", b"kept")
    was = rewrite.look(str(file), ME)
    rewrite.put(str(file), was.with_text("new"))
    assert file.read_bytes() == b"new"
    assert rewrite.look(str(file), ME) == was.with_text("new")
    file.unlink()
    rewrite.put(str(file), State.from_plain(was.plain()))
    assert rewrite.look(str(file), ME) == was
    assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (b"\xff\x00old", 0o640)
    assert os.listdir(tmp_path) == ["sshd"]


def test_a_file_that_was_not_there_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "sshd"
    nothing = rewrite.look(str(file), ME)
    assert nothing == State()
    rewrite.put(str(file), State(b"x", 0o600, ME, os.getegid()))
    rewrite.put(str(file), State.from_plain(nothing.plain()))
    rewrite.put(str(file), nothing)
    assert os.listdir(tmp_path) == []


def test_what_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sshd"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        rewrite.put(str(file), State(b"new", 0o600, ME, os.getegid()))
    assert os.listdir(tmp_path) == ["sshd"]
    assert file.read_text() == "old"


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "sshd.pam-totp-new").write_text("half")
    rewrite.put(str(tmp_path / "sshd"), State(b"new", 0o600, ME, os.getegid()))
    assert os.listdir(tmp_path) == ["sshd"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_not_touched(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "sshd"
    file.write_text("x")
    replace(file, kind)
    with pytest.raises((UnsafeFileError, OSError)):
        rewrite.look(str(file), ME)


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "sshd"
    file.write_text("x")
    owner = foreign(file)
    with pytest.raises(UnsafeFileError, match="chown root"):
        rewrite.look(str(file), owner)
