"""Whatever is missing or broken: nobody gets in, the log says why, and after the repair nothing is lost."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.lab.pam import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.login.host import Host, Person

pytestmark = pytest.mark.usefixtures("key_and_code")

PACKAGE = "/usr/lib/python3/dist-packages/pam_totp"
PUT_BACK = 'rm -rf "$DB" "$DB"-journal && cp -a /root/kept/* /var/lib/pam-totp/'
NAMES = "DB=/var/lib/pam-totp/cache.db KEY=/etc/pam-totp/key TOML=/etc/pam-totp/config.toml"


@dataclass(frozen=True)
class Fault:
    """How to break something and how to mend it (shell; $1 is a user with a record), and what the log then says."""

    break_it: str
    mend_it: str
    outcome: str
    reason: str
    detail: str = ""


def cache(break_it: str, mend_it: str, reason: str, detail: str = "") -> Fault:
    """A fault of the cache."""
    return Fault(break_it, mend_it, "unavailable", reason, detail)


def edited(sql: str) -> Fault:
    """A cache that was edited with SQLite's own tool, which leaves a sound SQLite file."""
    return cache(f'sqlite3 "$DB" "{sql}"', PUT_BACK, "cache-damaged")


def key(break_it: str, mend_it: str, reason: str, detail: str = "") -> Fault:
    """A fault of the host key."""
    return Fault(break_it, mend_it, "unavailable", reason, detail)


def config(text: str, detail: str) -> Fault:
    """A configuration file with a mistake."""
    return Fault(f"echo '{text}' >\"$TOML\"", 'rm "$TOML"', "misconfigured", "bad-config", detail)


FAULTS = {
    "cache missing": cache('mv "$DB" /root/away', 'mv /root/away "$DB"', "cache-missing", "restore it"),
    "cache truncated": cache('truncate -s 40k "$DB"', PUT_BACK, "cache-unusable", "restore it"),
    "cache empty": cache('truncate -s 0 "$DB"', PUT_BACK, "cache-version", "restore a backup"),
    "cache overwritten": cache(
        'head -c 60000 /dev/urandom | dd of="$DB" conv=notrunc', PUT_BACK, "cache-unusable", "restore it"
    ),
    "cache of something else": cache(
        'rm "$DB" && (umask 77; sqlite3 "$DB" "CREATE TABLE account (name)")', PUT_BACK, "cache-version"
    ),
    "cache of a newer version": cache(
        'sqlite3 "$DB" "PRAGMA user_version = 3"',
        'sqlite3 "$DB" "PRAGMA user_version = 2"',
        "cache-version",
        "upgrade the package",
    ),
    "cache readable by others": cache('chmod 644 "$DB"', 'chmod 600 "$DB"', "cache-unsafe", "chmod go="),
    "cache of another owner": cache('chown nobody "$DB"', 'chown root "$DB"', "cache-unsafe", "chown root"),
    "cache directory open to others": cache(
        "chmod 755 /var/lib/pam-totp", "chmod 700 /var/lib/pam-totp", "cache-unsafe", "chmod go="
    ),
    "directory in the place of the cache": cache(
        'mv "$DB" /root/away; mkdir "$DB"', 'rmdir "$DB"; mv /root/away "$DB"', "cache-unsafe", "not a plain file"
    ),
    "link in the place of the cache": cache(
        'mv "$DB" /root/away; ln -s /root/away "$DB"', 'rm "$DB"; mv /root/away "$DB"', "cache-unsafe"
    ),
    "account deleted": edited("DELETE FROM account WHERE name = '$1'"),
    "account and authenticators deleted": edited(
        "DELETE FROM account WHERE name = '$1'; DELETE FROM authenticator WHERE name = '$1'"
    ),
    "authenticator deleted": edited("DELETE FROM authenticator WHERE name = '$1'"),
    "account renamed": edited("UPDATE account SET name = 'x' || name WHERE name = '$1'"),
    "authenticator made pending": edited("UPDATE authenticator SET state = 'pending' WHERE name = '$1'"),
    "secret overwritten": edited("UPDATE authenticator SET secret = randomblob(61) WHERE name = '$1'"),
    "ledger overwritten": edited("UPDATE account SET ledger = randomblob(553) WHERE name = '$1'"),
    "roster overwritten": edited("UPDATE roster SET entries = randomblob(41)"),
    "roster deleted": edited("DELETE FROM roster"),
    "key missing": key('mv "$KEY" /root/away', 'mv /root/away "$KEY"', "key-missing", "restore it"),
    "key of another host": key(
        'mv "$KEY" /root/away; (umask 377; tr 0-9a-f 1-9a-f0 </root/away | sed "s/^[^ ]*/pam-totp-key-1/" >"$KEY")',
        'rm -f "$KEY"; mv /root/away "$KEY"',
        "cache-damaged",
        "from the same backup",
    ),
    "key cut short": key(
        'cp -p "$KEY" /root/away; truncate -s 100 "$KEY"', 'mv /root/away "$KEY"', "key-unusable", "not a pam-totp key"
    ),
    "key readable by others": key('chmod 444 "$KEY"', 'chmod 400 "$KEY"', "key-unusable", "chmod go="),
    "key of another owner": key('chown nobody "$KEY"', 'chown root "$KEY"', "key-unusable", "chown root"),
    "config with a syntax error": config("window = ", "not valid TOML"),
    "config with an unknown key": config("windwo = 1", "unknown key"),
    "config with a value out of range": config("window = 11", "a whole number from 0 to 10"),
    "config writable by others": Fault(
        'touch "$TOML"; chmod 666 "$TOML"', 'rm "$TOML"', "misconfigured", "bad-config", "chmod go-w"
    ),
    "runtime directory open to others": cache(
        "chmod 755 /run/pam-totp", "chmod 700 /run/pam-totp", "run-unusable", "not a private directory"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_nobody_gets_in_or_is_asked_and_the_log_says_why_and_after_the_repair_nothing_is_lost(
    host: Host, fault: Fault
) -> None:
    alice = host.person()
    host.machine.sh("rm -rf /root/kept; cp -a /var/lib/pam-totp /root/kept")
    mark = host.machine.mark()
    with broken(alice, fault.break_it, fault.mend_it):
        result = alice.log_in(alice.code())
    assert not result.ok
    assert result.asked == ()
    (line,) = host.decisions(mark)
    assert (line["outcome"], line["reason"]) == (fault.outcome, fault.reason)
    assert line["user"] == alice.name
    assert fault.detail in line["detail"]
    assert alice.log_in(alice.code()).ok


WITHOUT_PROOF = ["cache missing", "cache truncated", "roster deleted", "key missing", "key of another host"]


@pytest.mark.parametrize("fault", [FAULTS[name] for name in WITHOUT_PROOF], ids=WITHOUT_PROOF)
def test_who_is_not_enrolled_does_not_get_in_either_while_nothing_proves_it(host: Host, fault: Fault) -> None:
    bob = host.person(enrolled=False)
    host.machine.sh("rm -rf /root/kept; cp -a /var/lib/pam-totp /root/kept")
    mark = host.machine.mark()
    with broken(bob, fault.break_it, fault.mend_it):
        assert not bob.log_in().ok
    assert [line["reason"] for line in host.decisions(mark)] == [fault.reason]
    assert bob.log_in().ok


def test_a_disk_that_gives_read_errors_lets_nobody_in(host: Host) -> None:
    alice = host.person()
    script = """
        strace -f -qq -o /root/trace -P "$DB" -e inject=pread64:error=EIO -p "$(cat /run/sshd.pid)" >/dev/null 2>&1 &
        echo $! >/run/strace.pid
        until grep -q "^TracerPid:[^0]*[1-9]" "/proc/$(cat /run/sshd.pid)/status"; do sleep 0.01; done
    """
    mark = host.machine.mark()
    with broken(alice, script, 'kill "$(cat /run/strace.pid)"'):
        assert not alice.log_in(alice.code()).ok
    assert "(INJECTED)" in host.machine.read("/root/trace")
    assert [line["reason"] for line in host.decisions(mark)] == ["cache-unusable"]
    assert alice.log_in(alice.code()).ok


# What is moved away, and what the log then says: with our own engine, and with pam_python.
MISSING = {
    "package": (PACKAGE, "the helper gave no result", "No module named 'pam_totp'"),
    "one file of the package": (f"{PACKAGE}/login/login.py", *["outcome=error reason=internal-error"] * 2),
    "library": ("/usr/lib/python3/dist-packages/nacl", *["outcome=error reason=internal-error"] * 2),
}


@pytest.mark.parametrize(("path", "ours", "by_pam_python"), MISSING.values(), ids=MISSING)
def test_nobody_gets_in_where_a_part_of_the_module_is_missing(
    host: Host, path: str, ours: str, by_pam_python: str
) -> None:
    _nobody_gets_in_without(host, path, ours if host.machine.module == OURS else by_pam_python)


def test_nobody_gets_in_where_what_the_line_names_is_missing(host: Host) -> None:
    ours = host.machine.module == OURS
    package, module = ("libpam-totp", "pam_totp.so") if ours else ("libpam-python", "pam_python.so")
    files = host.machine.run(["dpkg", "-L", package]).stdout.split()
    (path,) = [file for file in files if file.endswith(f"/{module}")]
    _nobody_gets_in_without(host, path, f"{module}")
    if ours:
        _nobody_gets_in_without(host, "/usr/bin/python3", "cannot start /usr/bin/python3: No such file or directory")
    else:
        _nobody_gets_in_without(host, "/lib/security/pam_totp.py", "Can not open module")


def _nobody_gets_in_without(host: Host, path: str, logged: str) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    mark = host.machine.mark()
    with broken(alice, f"mv {path} /root/away", f"mv /root/away {path}"):
        results = [alice.log_in(alice.code()), bob.log_in()]
    assert not any(result.ok or result.asked for result in results)
    assert sum(logged in record.message for record in host.machine.log(mark)) >= 2
    assert alice.log_in(alice.code()).ok
    assert bob.log_in().ok


@contextmanager
def broken(person: Person, break_it: str, mend_it: str) -> Iterator[None]:
    """Break something for a while."""
    machine = person.host.machine
    machine.sh(f"set -e; {NAMES}; {break_it}", person.name)
    try:
        yield
    finally:
        machine.sh(f"set -e; {NAMES}; {mend_it}", person.name)
