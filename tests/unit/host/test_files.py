"""Opening files that nobody else may have had a hand in."""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from pam_totp.host import files
from tests.unit import places
from tests.unit.places import ME

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o600)
    return path


def test_a_private_file_is_read(file: Path) -> None:
    assert files.read(str(file), ME, 7) == b"content"
    assert files.inspect(str(file), ME).st_size == 7


def test_a_file_larger_than_its_limit_is_refused(file: Path) -> None:
    with pytest.raises(files.UnsafeFileError, match="larger than 6 bytes"):
        files.read(str(file), ME, 6)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for look in (lambda path: files.read(path, ME, 9), lambda path: files.inspect(path, ME)):
        with pytest.raises(FileNotFoundError):
            look(str(tmp_path / "nothing"))


@pytest.mark.parametrize("kind", places.KINDS)
def test_what_is_not_a_plain_file_of_one_name_is_refused_and_nothing_hangs(kind: str, file: Path) -> None:
    places.replace(file, kind)
    for look in (lambda path: files.read(path, ME, 9), lambda path: files.inspect(path, ME)):
        with pytest.raises(files.UnsafeFileError, match="names" if kind == "hard link" else "not a plain file"):
            look(str(file))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_private_file_that_is_open_to_others_is_refused(mode: int, file: Path) -> None:
    file.chmod(mode)
    with pytest.raises(files.UnsafeFileError, match="chmod go= "):
        files.read(str(file), ME, 9)


def test_a_file_that_may_be_read_by_others_must_not_be_written_by_them(file: Path) -> None:
    file.chmod(0o644)
    assert files.read(str(file), ME, 9, private=False) == b"content"
    for mode in (0o664, 0o646):
        file.chmod(mode)
        with pytest.raises(files.UnsafeFileError, match="chmod go-w "):
            files.read(str(file), ME, 9, private=False)


def test_somebody_elses_file_is_refused(file: Path) -> None:
    owner = places.foreign(file)
    with pytest.raises(files.UnsafeFileError, match="belongs to uid"):
        files.inspect(str(file), owner)


def test_a_file_that_is_swapped_after_it_was_looked_at_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = files.inspect

    def swap(path: str, owner: int, private: bool = True) -> os.stat_result:
        status = look(path, owner, private)
        places.replace(file, "hard link")
        return status

    monkeypatch.setattr(files, "inspect", swap)
    with pytest.raises(files.UnsafeFileError):
        files.read(str(file), ME, 9)


def test_a_file_that_is_replaced_again_and_again_is_read_whole_each_time(file: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            other = file.with_name("other")
            while True:
                other.write_bytes(b"content")
                other.chmod(0o600)
                other.rename(file)
        finally:
            os._exit(1)
    try:
        for _ in range(5000):
            assert files.read(str(file), ME, 7) == b"content"
            assert files.inspect(str(file), ME).st_size == 7
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_file_that_stays_without_a_name_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if another one took its place each time it is looked at.
    real = os.open

    def vanishing(path: str, flags: int) -> int:
        descriptor = real(path, flags)
        other = file.with_name("other")
        os.close(real(other, os.O_WRONLY | os.O_CREAT, 0o600))
        other.rename(file)
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr("posix.open", vanishing)
        with pytest.raises(files.UnsafeFileError, match="has 0 names"):
            files.read(str(file), ME, 7)


def test_no_descriptor_is_left_open(file: Path) -> None:
    before = os.listdir("/proc/self/fd")
    files.read(str(file), ME, 9)
    for attempt in range(3):
        with pytest.raises(files.UnsafeFileError):
            files.read(str(file), ME, attempt)
        with pytest.raises(files.UnsafeFileError):
            files.inspect(str(file), ME + 1)
    with pytest.raises(FileExistsError):
        files.write_new(str(file), b"", 0o600)
    files.write_new(f"{file}.new", b"content", 0o600)
    assert os.listdir("/proc/self/fd") == before


# Directories above


def test_directories_of_root_and_the_owner_are_safe_and_so_is_a_sticky_one(tmp_path: Path) -> None:
    files.check_parents(str(tmp_path / "file"), ME)
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    files.check_parents(str(tmp_path / "sticky" / "file"), ME)
    files.check_parents("/usr/bin/env", places.SOMEBODY)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_directory_that_others_can_write_is_refused(mode: int, depth: int, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    path.mkdir(parents=True)
    weak = path.parents[depth - 1] if depth else path
    weak.chmod(mode)
    with pytest.raises(files.UnsafeFileError, match=f"{weak} can be written by others"):
        files.check_parents(str(path / "file"), ME)


def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "theirs"
    directory.mkdir()
    with pytest.raises(files.UnsafeFileError, match="belongs to uid"):
        files.check_parents(str(directory / "file"), places.foreign(directory))


@pytest.mark.parametrize("kind", ["symlink", "plain file"])
def test_what_is_no_real_directory_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "directory"
    if kind == "symlink":
        (tmp_path / "real").mkdir()
        path.symlink_to(tmp_path / "real")
    else:
        path.write_text("")
    with pytest.raises(files.UnsafeFileError, match="not a directory"):
        files.check_parents(str(path / "file"), ME)


def test_a_missing_directory_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.check_parents(str(tmp_path / "nowhere" / "file"), ME)


# Writing


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_new_file_has_its_content_and_mode_whatever_the_umask(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "new"
    before = os.umask(0o777)
    try:
        files.write_new(str(path), b"x" * 100_000, mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert files.read(str(path), ME, 100_000) == b"x" * 100_000


@pytest.mark.parametrize("kind", places.KINDS)
def test_what_is_there_is_never_written_over(kind: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        files.write_new(str(file), b"other", 0o600)
    places.replace(file, kind)
    with pytest.raises(FileExistsError):
        files.write_new(str(file), b"other", 0o600)
    assert (tmp_path / "file.real").read_bytes() == b"content"
    assert not (tmp_path / "nowhere").exists()


def test_a_new_file_and_its_name_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("posix.fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    files.write_new(str(tmp_path / "new"), b"content", 0o600)
    assert synced == [str(tmp_path / "new"), str(tmp_path)]


def test_a_write_in_pieces_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("posix.write", lambda descriptor, data: write(descriptor, bytes(data)[:3]))
    files.write_new(str(tmp_path / "new"), b"0123456789", 0o600)
    assert (tmp_path / "new").read_bytes() == b"0123456789"


def test_a_file_is_replaced_in_one_step_whatever_a_killed_process_has_left(file: Path) -> None:
    before = file.open("rb")
    file.with_name("file.new").write_bytes(b"half")
    files.replace(str(file), b"other", 0o400)
    assert file.read_bytes() == b"other"
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert before.read() == b"content"
    before.close()
    assert os.listdir(file.parent) == ["file"]


def test_a_wiped_file_is_overwritten_and_gone(file: Path) -> None:
    with file.open("rb") as opened:
        file.chmod(0o400)
        files.wipe(str(file))
        assert opened.read() == bytes(7)
    assert not file.exists()
    files.wipe(str(file))
