"""What the package does to a host when it is installed, upgraded, downgraded, removed and purged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.code import code
from tests.lab.machine import Machine
from tests.lab.setup import enroll, use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.machine import Completed
    from tests.lab.roots import Root

DEBS = ("/root/pam-totp.deb", "/root/libpam-totp.deb")
OTHERS = ("/root/other.deb", "/root/libother.deb")
MARKER = "/var/lib/misc/pam-totp"
DATA = ("/etc/pam-totp", "/var/lib/pam-totp", "/run/pam-totp")
MODULE_LINE = "auth required pam_totp.so\n"
PAM_PYTHON_LINE = "auth required pam_python.so pam_totp.py\n"


@pytest.fixture
def bare(base_root: Root, debs: tuple[Path, ...]) -> Iterator[Machine]:
    """A machine without the packages, which lie ready in it."""
    with Machine(base_root) as machine:
        for path, deb in zip(DEBS, debs, strict=True):
            machine.write(path, deb.read_bytes())
        yield machine


def apt(machine: Machine, *words: str, **env: str) -> Completed:
    """Run apt-get; its output, errors among it, is in `stdout`."""
    script = 'exec apt-get -q -y --no-install-recommends --allow-downgrades -o Dpkg::Use-Pty=0 "$@" 2>&1'
    env = {"DEBIAN_FRONTEND": "noninteractive", **env}
    return machine.sh(script, *words, check=False, env=env)


def installed(machine: Machine) -> Machine:
    done = apt(machine, "install", *DEBS)
    assert done.returncode == 0, done.stdout
    return machine


def version(machine: Machine) -> str:
    return machine.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "pam-totp"]).stdout


def other(machine: Machine, number: str) -> tuple[str, ...]:
    """The same packages under another version."""
    script = r"""
        set -e
        rm -rf /root/tree
        dpkg-deb -R "$1" /root/tree
        sed -i "s/^Version: .*/Version: $3/; s/(= [^)]*)/(= $3)/" /root/tree/DEBIAN/control
        dpkg-deb -b --root-owner-group /root/tree "$2"
    """
    for path, changed in zip(DEBS, OTHERS, strict=True):
        machine.sh(script, path, changed, number)
    return OTHERS


def settings(machine: Machine) -> str:
    return machine.sh("find /etc/pam.d /etc/pam.conf /etc/ssh -type f -exec sha256sum {} + | sort").stdout


def left_over(machine: Machine) -> list[str]:
    command = r"find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /run/lab \) -prune"
    found = machine.sh(command + r" -o -name '*pam[-_]totp*' -print").stdout
    return [path for path in found.splitlines() if not path.startswith(("/var/lib/apt/", "/var/cache/apt/"))]


def test_installing_changes_no_login(bare: Machine) -> None:
    before = settings(bare)
    installed(bare)
    assert settings(bare) == before


def test_the_first_installation_creates_key_and_cache_and_says_what_comes_next(bare: Machine) -> None:
    said = apt(bare, "install", *DEBS).stdout
    assert "pam-totp enroll USER" in said
    assert "\npam-totp is installed. No login has changed." in said
    assert "nothing to do" in bare.run(["pam-totp", "init"]).stdout
    again = apt(bare, "install", "--reinstall", *DEBS).stdout
    assert "Setting up pam-totp" in again
    assert "pam-totp enroll USER" not in again


def test_a_broken_cache_is_named_but_the_installation_ends(bare: Machine) -> None:
    bare.sh("mkdir -m 700 /var/lib/pam-totp && echo rubbish >/var/lib/pam-totp/cache.db")
    done = apt(bare, "install", *DEBS)
    assert done.returncode == 0
    assert "could not set up the key and the cache" in done.stdout
    assert "/var/lib/pam-totp/cache.db" in done.stdout
    assert version(bare).startswith("installed ")


def test_the_module_is_byte_compiled(bare: Machine) -> None:
    script = "find /usr/lib/python3/dist-packages/pam_totp -type f"
    listing = installed(bare).sh(script).stdout
    sources = re.findall(r"(\w+)\.py$", listing, re.MULTILINE)
    compiled = re.findall(r"(\w+)\.cpython-\d+\.pyc$", listing, re.MULTILINE)
    assert "pam_entry" in sources
    assert sorted(sources) == sorted(compiled)


OURS = [MODULE_LINE, "auth required \\\n  /lib/security/pam_totp.so # the code\n"]
BY_PAM_PYTHON = [PAM_PYTHON_LINE, "auth required \\\n  pam_python.so /lib/security/pam_totp.py # the code\n"]


@pytest.mark.parametrize(("lines", "module"), [(OURS, "libpam-totp"), (BY_PAM_PYTHON, "libpam-python")])
def test_pam_is_never_left_with_a_line_that_names_a_missing_module(
    bare: Machine, lines: list[str], module: str
) -> None:
    installed(bare)
    if module == "libpam-python":
        # Our own module would do for the package, so that pam_python may go: README says so.
        assert apt(bare, "remove", "libpam-totp").returncode == 0
    before = version(bare)
    stack = bare.read("/etc/pam.d/sshd")
    for line in lines:
        bare.write("/etc/pam.d/sshd", stack + line)
        for words in (("remove", "pam-totp"), ("purge", "pam-totp"), ("remove", module), ("purge", module)):
            done = apt(bare, *words)
            assert done.returncode != 0
            assert re.search(r"NOT REMOVED.*/etc/pam\.d/sshd:\d+:.*pam_totp\.(py|so)", done.stdout, re.DOTALL)
            assert version(bare) == before
            bare.run(["test", "-e", "/usr/lib/security/pam_totp.py"])
            bare.run(["test", "-e", "/var/lib/pam-totp/cache.db"])
            assert bare.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", module]).stdout == "installed"
    assert bare.run(["dpkg", "--audit"]).stdout == ""


@pytest.mark.parametrize("line", [MODULE_LINE, PAM_PYTHON_LINE])
def test_the_refusal_to_be_removed_can_be_overridden(bare: Machine, line: str) -> None:
    installed(bare).sh('printf %s "$1" >>/etc/pam.d/sshd', line)
    done = apt(bare, "purge", "pam-totp", "libpam-totp", PAM_TOTP_REMOVE="force")
    assert done.returncode == 0, done.stdout
    # With the line in place this must stay: see below.
    assert left_over(bare) == [MARKER]


def files(machine: Machine) -> list[str]:
    return machine.sh("find /etc/pam-totp /var/lib/pam-totp -type f | sort", check=False).stdout.split()


def test_a_host_that_was_purged_by_force_is_not_set_up_anew_by_itself(bare: Machine) -> None:
    alice = installed(bare).user("alice")
    use(bare, "key-and-code")
    enroll(bare, alice)
    assert apt(bare, "purge", "pam-totp", "libpam-totp", PAM_TOTP_REMOVE="force").returncode == 0
    done = apt(bare, "install", *DEBS)
    assert done.returncode == 0
    assert re.search(rf"set up before \({MARKER}, /etc/pam.d/sshd asks pam-totp\)", done.stdout)
    assert "pam-totp init --anew" in done.stdout
    assert "No login has changed" not in done.stdout
    assert files(bare) == []
    assert not bare.login(alice, key=True).ok
    # Without the line the marker alone says it, and the other way round.
    assert apt(bare, "remove", "pam-totp", "libpam-totp", PAM_TOTP_REMOVE="force").returncode == 0
    for remove in (MARKER, "/etc/pam.d/sshd"):
        bare.run(["mv", remove, "/root/away"])
        assert bare.run(["pam-totp", "init"], check=False).returncode != 0
        bare.run(["mv", "/root/away", remove])
    assert apt(bare, "install", *DEBS).returncode == 0
    bare.run(["pam-totp", "init", "--anew"])
    assert bare.login(alice, key=True).ok


def test_where_pam_asks_already_no_installation_says_that_no_login_has_changed(bare: Machine) -> None:
    alice = installed(bare).user("alice")
    use(bare, "key-and-code")
    secret = enroll(bare, alice)
    bare.sh("mkdir /root/backup && cp -a /etc/pam-totp/key /var/lib/pam-totp /root/backup")
    assert apt(bare, "purge", "pam-totp", "libpam-totp", PAM_TOTP_REMOVE="force").returncode == 0
    bare.sh("install -d -m 700 /etc/pam-totp; cd /root/backup && cp -a key /etc/pam-totp && cp -a pam-totp /var/lib")
    said = apt(bare, "install", *DEBS).stdout
    assert "PAM asks it already" in said
    assert "\n/etc/pam.d/sshd\n" in said
    assert "No login has changed" not in said
    assert bare.login(alice, key=True, code=code(secret)).ok
    assert not bare.login(alice, key=True).ok


def test_an_upgrade_of_a_host_that_lost_key_and_cache_makes_no_new_ones(bare: Machine) -> None:
    alice = installed(bare).user("alice")
    use(bare, "key-and-code")
    enroll(bare, alice)
    bare.sh('rm -rf /etc/pam-totp /var/lib/pam-totp "$1"', MARKER)
    done = apt(bare, "install", *other(bare, "99.0"))
    assert done.returncode == 0
    assert "could not set up the key and the cache" in done.stdout
    assert files(bare) == []
    assert not bare.login(alice, key=True).ok
    # Nor does the command, although the marker was lost too.
    bare.sh("sed -i '/pam_totp/d' /etc/pam.d/sshd")
    assert bare.run(["pam-totp", "init"], check=False).returncode == 3
    assert files(bare) == []


def test_the_profile_puts_the_line_behind_the_password_and_only_when_it_is_chosen(bare: Machine) -> None:
    common = installed(bare).read("/etc/pam.d/common-auth")
    assert "pam_totp" not in common
    bare.run(["pam-auth-update", "--enable", "pam-totp"])
    lines = [line.split() for line in bare.read("/etc/pam.d/common-auth").splitlines() if not line.startswith("#")]
    modules = [line[2] for line in lines if len(line) > 2 and line[0] == "auth"]
    where = next(number for number, line in enumerate(lines) if "pam_totp.so" in line)
    assert lines[where] == ["auth", "required", "pam_totp.so"]
    assert next(number for number, line in enumerate(lines) if "pam_permit.so" in line) < where
    assert modules.index("pam_deny.so") < modules.index("pam_totp.so")
    done = apt(bare, "remove", "libpam-totp")
    assert done.returncode != 0
    assert "run pam-auth-update and deselect" in done.stdout
    bare.run(["pam-auth-update", "--disable", "pam-totp"])
    assert bare.read("/etc/pam.d/common-auth") == common
    assert apt(bare, "remove", "libpam-totp").returncode == 0


def test_a_comment_and_what_dpkg_put_aside_do_not_keep_it_from_being_removed(bare: Machine) -> None:
    installed(bare).sh(
        """
        printf '#%s' "$1" >>/etc/pam.d/sshd
        printf 'auth required pam_permit.so # not pam_totp.py nor pam_totp.so\n' >/etc/pam.d/other
        printf '%s' "$1" | tee /etc/pam.d/sshd.dpkg-old >/etc/pam.d/sshd~
        """,
        MODULE_LINE,
    )
    assert apt(bare, "remove", "pam-totp", "libpam-totp").returncode == 0


def test_removal_keeps_the_enrolments_and_a_purge_leaves_nothing(bare: Machine) -> None:
    alice = installed(bare).user("alice", key=False)
    enroll(bare, alice)
    bare.sh("mkdir -p -m 700 /run/pam-totp")
    assert apt(bare, "remove", "pam-totp", "libpam-totp").returncode == 0
    assert all(bare.run(["test", "-d", path], check=False).returncode == 0 for path in DATA)
    assert apt(bare, "install", *DEBS).returncode == 0
    assert re.search(r"^alice +active ", bare.run(["pam-totp", "status"]).stdout, re.MULTILINE)
    assert apt(bare, "purge", "pam-totp", "libpam-totp").returncode == 0
    assert left_over(bare) == []


def test_a_downgrade_is_refused_with_the_reason(bare: Machine) -> None:
    installed(bare)
    before = version(bare)
    done = apt(bare, "install", *other(bare, "0.0.1"))
    assert done.returncode != 0
    assert "by the older 0.0.1" in done.stdout
    assert version(bare) == before
    assert bare.run(["pam-totp", "init"]).returncode == 0
    # Nor by the way round of removing it, which keeps the cache.
    assert apt(bare, "remove", "pam-totp", "libpam-totp").returncode == 0
    assert apt(bare, "install", *OTHERS).returncode != 0
    bare.run(["dpkg", "--install", *OTHERS], env={"PAM_TOTP_DOWNGRADE": "force"})
    assert version(bare) == "installed 0.0.1"


def test_an_upgrade_goes_through_with_logins_checked_at_each_step(bare: Machine) -> None:
    alice = installed(bare).user("alice")
    use(bare, "key-and-code")
    secret = enroll(bare, alice)
    newer = other(bare, "99.0")
    assert bare.run(["dpkg", "--unpack", *newer]).returncode == 0
    wrong = bare.login(alice, key=True, code="000000")
    assert (wrong.ok, wrong.asked_code) == (False, True)
    spent = code(secret)
    assert bare.login(alice, key=True, code=spent).ok
    assert bare.run(["dpkg", "--configure", "pam-totp", "libpam-totp"]).returncode == 0
    assert version(bare) == "installed 99.0"
    again = bare.login(alice, key=True, code=spent)
    assert (again.ok, again.asked_code) == (False, True)
