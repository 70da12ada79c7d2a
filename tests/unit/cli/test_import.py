"""pam-totp import: all of a source or nothing, by name, and as fast as ten thousand users need it."""

from __future__ import annotations

import base64
import os
import pwd
import re
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.store import Store
from pam_totp.cache.volatile import Volatile
from pam_totp.errors import CacheReadOnlyError
from pam_totp.factors import otp
from pam_totp.host.users import User
from tests.unit.pretend import ALICE, BOB, Host, code

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Passwd

RAW = b"12345678901234567890"
OTHER = b"98765432109876543210"


@pytest.fixture(autouse=True)
def listed(passwd: Passwd, monkeypatch: pytest.MonkeyPatch) -> None:
    """NSS lists the users whom it knows."""
    monkeypatch.setattr(pwd, "getpwall", lambda: list(passwd.values()))


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """A private file with this content."""

    def write(content: str) -> str:
        path = tmp_path / "source"
        path.write_text(content)
        path.chmod(0o600)
        return str(path)

    return write


def oath(*people: tuple[str, bytes]) -> str:
    return "".join(f"HOTP/T30/6\t{name}\t-\t{secret.hex()}\n" for name, secret in people)


def test_an_imported_user_is_asked_and_gets_in_with_the_next_code(
    command: Command, host: Host, file: Callable[[str], str]
) -> None:
    ran = command("import", "--format", "oath", file(oath(("alice", RAW), ("bob", OTHER))))
    assert (ran.code, ran.out, ran.err) == (0, "imported 2 authenticators of 2 users\n", "")
    assert host.login("alice", code(RAW, otp.step_at(host.wall))).reason == "code"
    assert host.login("bob", host.wrong(OTHER)).reason == "wrong-code"
    assert [each.label for each in host.account().active] == ["phone"]


def test_secrets_come_from_standard_input_too(command: Command, host: Host) -> None:
    uri = f"otpauth://totp/Host:alice@lab?secret={base64.b32encode(RAW).decode()}"
    assert command("import", "--format", "uri", "-", piped=f"{uri}\n").code == 0
    assert host.secret("alice") == RAW


def test_a_dry_run_shows_a_table_and_changes_nothing(command: Command, host: Host, file: Callable[[str], str]) -> None:
    before = host.snapshot()
    ran = command("import", "--format", "oath", "--dry-run", file(oath(("alice", RAW), ("carol", OTHER))))
    assert ran.code == 1
    assert [line.split() for line in ran.out.splitlines()[:2]] == [
        ["USER", "AUTHENTICATOR", "RESULT", "FROM", "NOTES"],
        ["alice", "phone", "new", "line", "1"],
    ]
    assert re.search(r"^carol +- +refused +line 2 +no such user on this host$", ran.out, re.MULTILINE)
    assert ran.out.endswith("would import 1 authenticator of 1 user; 1 refused; nothing was changed\n")
    assert host.snapshot() == before
    assert command("import", "--format", "oath", "--dry-run", file(oath(("alice", RAW)))).code == 0


def test_nothing_is_imported_where_something_is_refused(
    command: Command, host: Host, file: Callable[[str], str]
) -> None:
    before = host.snapshot()
    source = file(oath(("alice", RAW)) + f"HOTP/T60 bob - {OTHER.hex()}\nHOTP dave - {OTHER.hex()}\n")
    ran = command("import", "--format", "oath", source)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "pam-totp: refused: bob (line 2): codes change every 60 s, not 30 s",
        "pam-totp: refused: dave (line 3): codes are counted (HOTP), not timed",
        "pam-totp: nothing was imported: mend what is refused, or leave it out with --skip",
    ]
    assert host.snapshot() == before


def test_the_others_are_imported_where_what_is_refused_is_to_be_skipped(
    command: Command, host: Host, file: Callable[[str], str]
) -> None:
    ran = command("import", "--format", "oath", "--skip", file(oath(("carol", OTHER), ("alice", RAW))))
    assert (ran.code, ran.out) == (0, "imported 1 authenticator of 1 user; 1 refused\n")
    assert "refused: carol (line 1): no such user on this host" in ran.err
    assert host.secret("alice") == RAW


def test_a_file_of_another_kind_changes_nothing(command: Command, host: Host, file: Callable[[str], str]) -> None:
    before = host.snapshot()
    source = file(oath(("alice", RAW)) + "something else\n")
    ran = command("import", "--format", "oath", source)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"pam-totp: {source}: line 2 is not one of a users file of pam_oath; nothing was imported\n"
    assert host.snapshot() == before


def test_the_same_import_again_changes_nothing(command: Command, host: Host, file: Callable[[str], str]) -> None:
    source = file(oath(("alice", RAW)))
    assert command("import", "--format", "oath", source).code == 0
    before = host.snapshot()
    ran = command("import", "--format", "oath", source)
    assert (ran.code, ran.out) == (0, "imported 0 authenticators of 0 users; 1 there already\n")
    assert host.snapshot() == before


def test_a_further_authenticator_keeps_the_first_and_gets_a_label_of_its_own(
    command: Command, host: Host, file: Callable[[str], str]
) -> None:
    first = host.enroll(ALICE)
    assert command("import", "--format", "oath", file(oath(("alice", RAW), ("alice", OTHER)))).code == 0
    assert sorted(each.label for each in host.account().active) == ["phone", "phone-2", "phone-3"]
    assert host.login("alice", host.code(first)).reason == "code"
    assert command("import", "--format", "oath", "--label", "fob", file(oath(("alice", b"x" * 20)))).code == 0
    assert "fob" in [each.label for each in host.account().active]


def test_more_authenticators_than_a_user_can_have_are_refused(
    command: Command, host: Host, file: Callable[[str], str]
) -> None:
    ran = command("import", "--format", "oath", file(oath(*(("alice", bytes([byte]) * 20) for byte in range(6)))))
    assert ran.code == 1
    assert "alice (line 6): 5 authenticators are the most" in ran.err
    assert host.account().active == []


def test_a_pending_key_stays_pending_beside_the_imported_one(
    command: Command, host: Host, file: Callable[[str], str]
) -> None:
    pending = host.enroll(ALICE, "tablet", issued=True)
    assert command("import", "--format", "oath", file(oath(("alice", pending)))).code == 1
    assert command("import", "--format", "oath", file(oath(("alice", RAW)))).code == 0
    account = host.account()
    assert [each.secret for each in account.active] == [RAW]
    assert account.issued is not None
    assert host.login("alice", code(RAW, otp.step_at(host.wall))).reason == "code"


def test_a_damaged_record_is_refused_and_the_others_stay_as_they_are(
    command: Command, host: Host, file: Callable[[str], str]
) -> None:
    host.enroll(ALICE)
    with host.accounts() as accounts:
        accounts._store.execute("UPDATE account SET ledger = x'00' WHERE name = 'alice'")
    ran = command("import", "--format", "oath", file(oath(("bob", OTHER), ("alice", RAW))))
    assert ran.code == 1
    assert "refused: alice (line 2): the record of alice is damaged" in ran.err
    assert host.account(BOB).active == []


def test_a_disk_that_fills_up_half_way_leaves_nobody_half_imported(
    command: Command, host: Host, file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host.snapshot()
    room = [1]
    put = Store.put_authenticator

    def limited(store: Store, name: str, row: tuple[object, ...]) -> None:
        if not room:
            raise CacheReadOnlyError("the cache cannot be written (SQLITE_FULL): free space")
        room.pop()
        put(store, name, row)

    monkeypatch.setattr(Store, "put_authenticator", limited)
    ran = command("import", "--format", "oath", file(oath(("alice", RAW), ("bob", OTHER))))
    assert ran.code == 3
    assert "free space" in ran.err
    assert host.snapshot() == before
    assert host.in_run() == [each for each in host.in_run() if each.endswith(".lock")]
    with host.accounts() as accounts:
        assert accounts.names() == []
        assert accounts.damage() == []


def test_a_login_that_holds_its_lock_is_waited_for_and_nothing_is_imported_without_it(
    command: Command, host: Host, file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Volatile.lock, "__defaults__", (0.2,))
    with host.accounts() as accounts, accounts.lock("bob"):
        ran = command("import", "--format", "oath", file(oath(("alice", RAW), ("bob", OTHER))))
    assert ran.code == 3
    assert "another login of this user held its lock" in ran.err
    assert host.account().active == []


def test_what_was_spent_in_the_other_program_is_spent_here(
    command: Command, host: Host, passwd: Passwd, tmp_path: Path
) -> None:
    step = otp.step_at(host.wall)
    google(passwd, tmp_path, f'" DISALLOW_REUSE {step - 1} {step}')
    assert command("import", "--format", "google").code == 0
    assert host.login("alice", code(RAW, step)).reason == "spent-code"
    host.later(30)
    assert host.login("alice", code(RAW, step + 1)).reason == "code"


def test_a_step_of_the_future_locks_nobody_out(command: Command, host: Host, passwd: Passwd, tmp_path: Path) -> None:
    google(passwd, tmp_path, f'" DISALLOW_REUSE {2**40}')
    assert command("import", "--format", "google").code == 0
    host.later(90)
    assert host.login("alice", code(RAW, otp.step_at(host.wall))).reason == "code"


def test_a_learned_drift_goes_on_here(command: Command, host: Host, passwd: Passwd, tmp_path: Path) -> None:
    google(passwd, tmp_path, '" TIME_SKEW -4')
    assert command("import", "--format", "google").code == 0
    assert host.login("alice", code(RAW, otp.step_at(host.wall) - 4)).reason == "code"


def test_scratch_codes_stay_good_once(command: Command, host: Host, passwd: Passwd, tmp_path: Path) -> None:
    google(passwd, tmp_path, "52449723", "11133056")
    assert command("import", "--format", "google").code == 0
    assert host.login("alice", "52449723").reason == "scratch-code"
    assert host.login("alice", "52449723").reason == "wrong-code"
    assert host.account(User("alice", os.geteuid())).ledger.scratch == ["11133056"]


def test_an_import_again_takes_over_what_was_used_there_meanwhile(
    command: Command, host: Host, passwd: Passwd, tmp_path: Path
) -> None:
    step = otp.step_at(host.wall)
    path = google(passwd, tmp_path, f'" DISALLOW_REUSE {step - 9}', "52449723", "11133056")
    assert command("import", "--format", "google").code == 0
    path.chmod(0o600)
    path.write_text(path.read_text().replace(f"{step - 9}", f"{step - 9} {step}").replace("52449723\n", ""))
    ran = command("import", "--format", "google")
    assert (ran.code, ran.out) == (
        0,
        "imported 0 authenticators of 0 users; 1 updated with what was used there\n",
    )
    assert host.login("alice", code(RAW, step)).reason == "spent-code"
    assert host.login("alice", "52449723").reason == "wrong-code"
    assert host.login("alice", "11133056").reason == "scratch-code"
    # And what was used here does not come back from there.
    host.later(30)
    assert host.login("alice", code(RAW, step + 1)).reason == "code"
    assert command("import", "--format", "google").code == 0
    assert host.login("alice", "11133056", rhost="192.0.2.99").reason == "malformed-code"
    assert host.login("alice", code(RAW, step + 1)).reason == "spent-code"


def google(passwd: Passwd, tmp_path: Path, *lines: str, name: str = "alice", mode: int = 0o400) -> Path:
    """The file of a user, in a home below the test's directory."""
    home = tmp_path / name
    home.mkdir()
    passwd[name] = pwd.struct_passwd((name, "x", os.geteuid(), os.geteuid(), "", str(home), "/bin/sh"))
    path = home / ".google_authenticator"
    path.write_text("\n".join([base64.b32encode(RAW).decode(), *lines, '" TOTP_AUTH', ""]))
    path.chmod(mode)
    return path


def test_the_files_of_all_users_are_found(command: Command, host: Host, passwd: Passwd, tmp_path: Path) -> None:
    google(passwd, tmp_path, '" WINDOW_SIZE 17')
    ran = command("import", "--format", "google")
    assert ran.out.splitlines() == [
        "note: alice: window 17 there, which is window = 8 here",
        "imported 1 authenticator of 1 user",
    ]
    assert host.secret("alice") == RAW


def test_a_user_who_is_named_and_has_no_file_is_refused(command: Command, passwd: Passwd, tmp_path: Path) -> None:
    google(passwd, tmp_path)
    ran = command("import", "--format", "google", "alice", "bob")
    assert ran.code == 1
    assert "refused: bob (/home/bob/.google_authenticator): there is no such file" in ran.err


def test_where_the_files_are_is_said_as_in_the_pam_line(
    command: Command, host: Host, passwd: Passwd, tmp_path: Path
) -> None:
    google(passwd, tmp_path).rename(tmp_path / "of-alice")
    assert command("import", "--format", "google").code == 2
    assert command("import", "--format", "google", "--path", f"{tmp_path}/of-${{USER}}").code == 0
    assert host.secret("alice") == RAW


def test_a_link_in_a_home_is_not_followed_and_an_open_file_is_refused(
    command: Command, host: Host, passwd: Passwd, tmp_path: Path
) -> None:
    path = google(passwd, tmp_path, mode=0o644)
    assert "is open to others" in command("import", "--format", "google").err
    path.chmod(0o400)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    ran = command("import", "--format", "google")
    assert ran.code == 1
    assert "refused: alice" in ran.err
    assert host.account().active == []


def test_the_account_of_a_uri_may_have_a_host_and_is_shown(command: Command, file: Callable[[str], str]) -> None:
    uri = f"otpauth://totp/alice@lab?secret={base64.b32encode(RAW).decode()}\n"
    ran = command("import", "--format", "uri", "--json", file(uri))
    assert ran.json == [
        {"user": "alice", "label": "phone", "result": "new", "imported": True, "from": "line 1", "notes": []}
    ]


def test_nothing_that_is_printed_or_logged_has_a_secret(
    command: Command, host: Host, file: Callable[[str], str], journal: list[tuple[int, str]]
) -> None:
    source = file(oath(("alice", RAW), ("carol", OTHER)))
    for options in (("--dry-run",), ("--json", "--dry-run"), (), ("--skip",)):
        ran = command("import", "--format", "oath", *options, source)
        for secret in (RAW, OTHER):
            for text in (ran.out, ran.err, str(journal)):
                assert secret.hex() not in text
                assert base64.b32encode(secret).decode() not in text
    assert 'user=alice action=import by=root detail="from oath, label phone"' in journal[-1][1]


def test_a_file_that_others_can_read_is_told(command: Command, file: Callable[[str], str]) -> None:
    source = file(oath(("alice", RAW)))
    Path(source).chmod(0o644)
    ran = command("import", "--format", "oath", source)
    assert ran.code == 0
    assert f"{source} can be read by others: run chmod go= on it" in ran.err


@pytest.mark.parametrize(
    "arguments", [("oath",), ("pskc", "--key-file", "SOURCE", "SOURCE"), ("pskc", "--owners", "SOURCE", "SOURCE")]
)
def test_a_command_that_cannot_be_meant_is_a_usage_error(
    command: Command, file: Callable[[str], str], arguments: tuple[str, ...]
) -> None:
    source = file("one\n")
    assert command("import", "--format", *(source if each == "SOURCE" else each for each in arguments)).code == 2


def test_ten_thousand_users_are_imported_in_less_than_ten_seconds(
    command: Command, host: Host, passwd: Passwd, file: Callable[[str], str]
) -> None:
    people = []
    for number in range(10_000):
        name = f"user{number:05}"
        passwd.add(name, 100_000 + number)
        people.append((name, number.to_bytes(20, "big")))
    source = file(oath(*people))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        # Of this process alone: what else runs here is no reason to fail.
        started = time.process_time()
        ran = command("import", "--format", "oath", source)
        took = time.process_time() - started
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (ran.code, ran.out) == (0, "imported 10000 authenticators of 10000 users\n")
    assert took < 10
    with host.accounts() as accounts:
        assert accounts.damage() == []
    assert host.account(User("user09999", 109_999)).active[0].secret == people[-1][1]
