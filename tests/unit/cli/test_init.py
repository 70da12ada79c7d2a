"""init: creates, never overwrites, explains."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host


@pytest.fixture
def bare(host: Host) -> Host:
    """A host before init."""
    shutil.rmtree(f"{host.root}/etc")
    shutil.rmtree(f"{host.root}/var")
    return host


def lose(host: Host) -> None:
    """Key, cache and configuration are gone."""
    for path in (host.paths.key, host.paths.cache):
        shutil.rmtree(os.path.dirname(path))


def files(host: Host) -> dict[str, bytes]:
    found = {}
    for path in (host.paths.key, host.paths.cache):
        if os.path.lexists(path):
            with open(path, "rb") as file:
                found[path] = file.read()
    return found


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_the_key_and_the_cache_are_created_private(command: Command, bare: Host) -> None:
    ran = command("init")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"created {bare.paths.key} and {bare.paths.cache}: keep both in your backup\n"
    assert (mode(bare.paths.key), mode(bare.paths.cache)) == (0o400, 0o600)
    assert mode(os.path.dirname(bare.paths.cache)) == 0o700
    assert bare.account().empty
    assert sorted(os.listdir(os.path.dirname(bare.paths.cache))) == ["cache.db", "cache.db-journal"]


def test_the_journal_is_there_before_the_disk_is_full(command: Command, bare: Host) -> None:
    command("init")
    assert os.path.getsize(f"{bare.paths.cache}-journal") > 8 * 4096  # pages
    assert mode(f"{bare.paths.cache}-journal") == 0o600


def test_a_directory_of_the_cache_that_was_open_is_closed(command: Command, bare: Host) -> None:
    os.makedirs(os.path.dirname(bare.paths.cache))
    os.chmod(os.path.dirname(bare.paths.cache), 0o755)
    assert command("init").code == 0
    assert mode(os.path.dirname(bare.paths.cache)) == 0o700


def test_what_is_there_is_left_alone_and_told(command: Command, host: Host) -> None:
    host.enroll(ALICE)
    before = files(host)
    ran = command("init")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"nothing to do: {host.paths.key} and {host.paths.cache} are there (1 user)\n"
    host.enroll(BOB)
    assert "(2 users)" in command("init").out
    assert files(host) != before  # bob was enrolled, and nothing else
    assert host.account(ALICE).active
    assert host.account(BOB).active


@pytest.mark.parametrize(("missing", "there"), [("cache", "key"), ("key", "cache")])
def test_half_a_state_is_explained_and_not_completed(missing: str, there: str, command: Command, host: Host) -> None:
    os.unlink(getattr(host.paths, missing))
    before = files(host)
    ran = command("init")
    assert (ran.code, ran.out) == (3, "")
    assert f"{getattr(host.paths, missing)} is missing" in ran.err
    assert "restore" in ran.err
    assert f"move {getattr(host.paths, there)} away and run pam-totp init --anew" in ran.err
    assert files(host) == before


def test_a_dangling_link_counts_as_there(command: Command, bare: Host) -> None:
    os.makedirs(os.path.dirname(bare.paths.key), 0o700)
    os.symlink("/nowhere", bare.paths.key)
    assert command("init").code == 3
    assert os.readlink(bare.paths.key) == "/nowhere"
    assert not os.path.exists(bare.paths.cache)


def test_the_key_of_another_cache_is_told(command: Command, host: Host) -> None:
    os.unlink(host.paths.key)
    with open(host.paths.key, "w", encoding="ascii") as file:
        file.write(f"pam-totp-key-1 {'00' * 16} {'11' * 32}\n")
    os.chmod(host.paths.key, 0o400)
    ran = command("init")
    assert ran.code == 3
    assert "does not belong to this cache" in ran.err


def test_nothing_is_created_where_others_could_change_it(command: Command, bare: Host) -> None:
    os.makedirs(os.path.dirname(bare.paths.key))
    os.chmod(f"{bare.root}/etc", 0o777)
    ran = command("init")
    assert ran.code == 3
    assert "can be written by others" in ran.err
    assert files(bare) == {}


def test_two_hosts_have_different_keys(command: Command, bare: Host) -> None:
    command("init")
    first = files(bare)[bare.paths.key]
    shutil.rmtree(f"{bare.root}/etc")
    shutil.rmtree(f"{bare.root}/var")
    command("init")
    assert files(bare)[bare.paths.key] != first


# A host that was set up before


def test_a_host_that_lost_both_gets_none_until_somebody_says_so(command: Command, bare: Host) -> None:
    assert command("init").code == 0
    lose(bare)
    ran = command("init")
    assert (ran.code, ran.out) == (3, "")
    assert f"set up before ({bare.paths.marker})" in ran.err
    assert "restore both" in ran.err
    assert "pam-totp init --anew" in ran.err
    assert files(bare) == {}
    assert command("init", "--anew").code == 0
    assert bare.account().empty


@pytest.mark.parametrize(
    "line",
    ["auth required pam_totp.so", "auth required pam_python.so /x/pam_totp.py combined=split"],
)
def test_a_host_whose_pam_asks_already_is_no_new_one(line: str, command: Command, bare: Host) -> None:
    os.makedirs(bare.paths.services)
    with open(f"{bare.paths.services}/sshd", "w", encoding="ascii") as file:
        file.write(f"# the code\n{line}\n")
    ran = command("init")
    assert ran.code == 3
    assert f"{bare.paths.services}/sshd asks pam-totp" in ran.err
    assert files(bare) == {}
    assert command("init", "--anew").code == 0


def test_what_asks_nobody_is_no_sign(command: Command, bare: Host) -> None:
    os.makedirs(f"{bare.paths.services}/directory")
    for name, text in {
        "sshd": "#auth required pam_totp.so\nauth required pam_permit.so # pam_totp.so\n",
        "sshd.dpkg-old": "auth required pam_totp.so\n",
        "sshd~": "auth required pam_totp.so\n",
        "sshd.ucf-dist": "auth required pam_totp.so\n",
    }.items():
        with open(f"{bare.paths.services}/{name}", "w", encoding="ascii") as file:
            file.write(text)
    assert command("init").code == 0


def test_a_host_of_the_former_version_is_marked_too(command: Command, host: Host) -> None:
    assert not os.path.exists(host.paths.marker)
    command("init")
    lose(host)
    assert command("init").code == 3


def test_anew_replaces_nothing_that_is_there(command: Command, host: Host) -> None:
    before = files(host)
    ran = command("init", "--anew")
    assert ran.code == 2
    assert "move both away first" in ran.err
    assert files(host) == before
    os.unlink(host.paths.cache)
    assert command("init", "--anew").code == 3


def test_a_configuration_that_is_there_is_known_from_the_start(command: Command, bare: Host) -> None:
    os.makedirs(os.path.dirname(bare.paths.config), 0o700)
    with open(bare.paths.config, "w", encoding="ascii") as file:
        file.write('unenrolled = "deny"\n')
    assert command("init").code == 0
    os.unlink(bare.paths.config)
    assert bare.login("alice").reason == "config-missing"
