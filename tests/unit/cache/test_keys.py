"""The host key's file."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.cache import keys
from pam_totp.errors import DamageError, HostKeyError
from pam_totp.host import files
from tests.unit import places
from tests.unit.places import ME

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.pretend import Host

GOOD = f"pam-totp-key-1 {'0f' * 16} {'a1' * 32}\n"
ROTATED = f"pam-totp-key-2 {'0f' * 16} {'a1' * 32} {'b2' * 32}\n"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    keys.create(str(path))
    return path


def test_a_new_key_is_one_private_line(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    assert re.fullmatch(r"pam-totp-key-1 [0-9a-f]{32} [0-9a-f]{64}\n", key.read_text(encoding="ascii"))


def test_two_keys_are_different_and_so_are_their_hosts(key: Path, tmp_path: Path) -> None:
    keys.create(str(tmp_path / "other"))
    words = zip(key.read_text().split()[1:], (tmp_path / "other").read_text().split()[1:], strict=True)
    assert all(one != other for one, other in words)


def test_a_key_opens_what_it_sealed_and_another_one_does_not(key: Path, tmp_path: Path) -> None:
    sealed = keys.load(str(key), ME).seal(b"content", "place")
    assert keys.load(str(key), ME).open(sealed, "place") == b"content"
    keys.create(str(tmp_path / "other"))
    with pytest.raises(DamageError):
        keys.load(str(tmp_path / "other"), ME).open(sealed, "place")


def test_a_key_with_the_id_of_another_host_opens_nothing(key: Path) -> None:
    sealed = keys.load(str(key), ME).seal(b"content", "place")
    mark, host, secret = key.read_text().split()
    key.unlink()
    write(key, f"{mark} {'00' * 16} {secret}\n")
    assert host != "00" * 16
    with pytest.raises(DamageError):
        keys.load(str(key), ME).open(sealed, "place")


def test_an_existing_key_is_never_touched(key: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(FileExistsError):
        keys.create(str(key))
    assert key.read_bytes() == before


def test_a_missing_key_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(HostKeyError, match=r"is missing.*backup") as caught:
        keys.load(str(tmp_path / "key"), ME)
    assert caught.value.reason == "key-missing"


def write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o400)


@pytest.mark.parametrize(
    "content", [GOOD, GOOD.strip(), ROTATED, GOOD.upper().replace("PAM-TOTP-KEY", "pam-totp-key"), f"{GOOD}\n\n"]
)
def test_a_key_may_have_been_copied_by_hand(content: str, tmp_path: Path) -> None:
    write(tmp_path / "key", content)
    keys.load(str(tmp_path / "key"), ME)


@pytest.mark.parametrize(
    "content",
    [
        *("", "\n", "pam-totp-key-1", GOOD[:-2], GOOD[1:], GOOD + "more", GOOD.replace("key-1", "key-2")),
        *(
            GOOD.replace("0f", "0g", 1),
            GOOD.replace("a1", "", 1),
            GOOD.replace("a1", "a1a1", 1),
            GOOD.replace("0f", "", 1),
        ),
        *(
            ROTATED[:-2],
            ROTATED.replace("b2", "", 1),
            ROTATED.replace("b2", "xy", 1),
            ROTATED.replace("key-2", "key-1"),
        ),
        *(GOOD.replace(" ", ""), GOOD + GOOD, b"\xff" * 100, b"\0" * 4096),
    ],
)
def test_what_is_not_a_key_is_refused_and_not_shown(content: str | bytes, tmp_path: Path) -> None:
    write(tmp_path / "key", content)
    with pytest.raises(HostKeyError, match="is not a pam-totp key") as caught:
        keys.load(str(tmp_path / "key"), ME)
    assert caught.value.reason == "key-unusable"
    assert "a1a1" not in str(caught.value)


def test_a_file_too_large_for_a_key_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "key", GOOD + " " * 5000)
    with pytest.raises(HostKeyError, match="larger than"):
        keys.load(str(tmp_path / "key"), ME)


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o422])
def test_a_key_that_is_open_to_others_is_refused(mode: int, key: Path) -> None:
    key.chmod(mode)
    with pytest.raises(HostKeyError, match=r"not safe.*chmod go="):
        keys.load(str(key), ME)


@pytest.mark.parametrize("kind", places.KINDS)
def test_a_key_that_is_not_a_plain_file_is_refused(kind: str, key: Path) -> None:
    places.replace(key, kind)
    with pytest.raises(HostKeyError, match="not safe"):
        keys.load(str(key), ME)


def test_a_key_in_a_directory_that_others_can_write_is_refused(key: Path) -> None:
    key.parent.chmod(0o777)
    with pytest.raises(HostKeyError, match="can be written by others"):
        keys.load(str(key), ME)


def test_a_key_that_cannot_be_read_is_refused_with_the_systems_reason(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("posix.read", fail)
    with pytest.raises(HostKeyError, match="cannot be read: Input/output error"):
        keys.load(str(key), ME)


# Where it is found


def test_the_plain_key_comes_before_one_in_run(host: Host) -> None:
    os.mkdir(os.path.dirname(host.paths.unsealed), 0o700)
    keys.create(host.paths.unsealed)
    assert keys.find(host.paths).key_id == host.sealer().key_id
    unsealed = keys.load(host.paths.unsealed, ME)
    os.unlink(host.paths.key)
    assert keys.find(host.paths).key_id == unsealed.key_id


def test_the_key_that_the_cache_names_is_found_and_the_others_open_too(host: Host) -> None:
    first = host.sealer()
    following = f"{host.paths.key}.next"
    with open(following, "wb") as file:
        file.write(keys.successor(keys.read(host.paths.key, ME), "key"))
    os.chmod(following, 0o400)
    second = keys.load(following, ME)
    for current, other in ((first, second), (second, first)):
        found = keys.find(host.paths, current.key_id)
        assert found.key_id == current.key_id
        assert found.open(other.seal(b"content", "place"), "place") == b"content"
    with pytest.raises(HostKeyError) as caught:
        keys.find(host.paths, "00" * 16)
    assert caught.value.reason == "key-wrong"


def test_one_that_is_sealed_and_was_not_unsealed_is_told_apart(host: Host) -> None:
    os.rename(host.paths.key, f"{host.paths.key}.cred")
    with pytest.raises(HostKeyError, match="pam-totp key unseal --boot") as caught:
        keys.find(host.paths)
    assert caught.value.reason == "key-sealed"


def test_a_key_that_is_taken_away_while_it_is_read_is_looked_for_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [b"\0" * 108, None]
    read = files.read

    def overwritten(*arguments: Any) -> bytes:
        return contents.pop(0) or read(*arguments)

    monkeypatch.setattr(files, "read", overwritten)
    assert keys.find(host.paths).key_id
    assert contents == []
