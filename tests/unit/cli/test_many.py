"""enroll and invite for many users: from a list or a group, all or none, with a page for each."""

from __future__ import annotations

import base64
import json
import os
import resource
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import PENDING, Accounts
from pam_totp.factors import invitation
from pam_totp.host import nss
from pam_totp.host.users import User
from tests.unit.pretend import ALICE, BOB, Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Command, Ran
    from tests.unit.conftest import Disk, Passwd

    Write = Callable[[str], str]

SECRET = "JBSW Y3DP EHPK 3PXP jbsw y3dp ehpk 3pxp"
RAW = base64.b32decode(SECRET.replace(" ", "").upper())


@pytest.fixture
def a_list(tmp_path: Path) -> Callable[[str], str]:
    """A list in a file for root alone."""

    def write(text: str) -> str:
        path = tmp_path / "list"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return str(path)

    return write


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Where pages are to be; it is not there yet."""
    return tmp_path / "pages"


def objects(ran: Ran) -> list[dict[str, str]]:
    assert ran.code == 0, ran
    return [json.loads(line) for line in ran.out.splitlines()]


def scanned(page: Path, directory: Path) -> str:
    """What a phone sees on the printed page."""
    picture = directory / "page.png"
    subprocess.run(["rsvg-convert", "-w", "800", "-o", str(picture), str(page)], check=True)
    return subprocess.run(
        ["zbarimg", "--quiet", "--raw", "-S*.enable=0", "-Sqrcode.enable=1", str(picture)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


# Enrolling


def test_everybody_of_a_list_gets_a_key_and_a_page_that_scans(
    command: Command,
    host: Host,
    a_list: Write,
    pages: Path,
    tmp_path: Path,
    journal: list[tuple[int, str]],
) -> None:
    host.configure('unenrolled = "enroll"\n')
    ran = command("enroll", "--from", a_list("alice\n\n# not bob's friend\nbob\n"), "--handout", str(pages))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"2 users pending: alice, bob\npages: {pages}/USER.svg, for root only\n"
    assert sorted(os.listdir(pages)) == ["alice.svg", "bob.svg"]
    assert stat.S_IMODE(pages.stat().st_mode) == 0o700
    for user in (ALICE, BOB):
        page = pages / f"{user.name}.svg"
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        pending = host.account(user).pending
        assert pending is not None
        assert pending.identifier == host.account(user).ledger.issued
        key = base64.b32encode(pending.secret).decode()
        assert f"secret={key}&" in scanned(page, tmp_path)
        assert " ".join(key[start : start + 4] for start in range(0, 32, 4)) in page.read_text()
        assert not [line for _, line in journal if key in line]
    assert [line for _, line in journal] == [
        f'pam-totp: user={name} action=enroll by=root detail="label phone, pending"' for name in ("alice", "bob")
    ]
    assert not Path(f"{pages}.part").exists()


def test_the_first_code_of_such_a_key_enrols_at_the_login(
    command: Command, host: Host, a_list: Write, quick_hash: None
) -> None:
    host.configure('unenrolled = "enroll"\n')
    [alice] = objects(command("enroll", "--from", a_list("alice"), "--json"))
    assert (alice["user"], alice["result"], alice["label"]) == ("alice", "pending", "phone")
    assert alice["uri"].startswith("otpauth://totp/")
    outcome = host.login("alice", host.code(base64.b32decode(alice["secret"])), "yes")
    assert outcome.reason == "enrolled"


@pytest.mark.parametrize("policy", ["", 'unenrolled = "deny"\n'])
def test_where_no_login_asks_for_the_first_code_that_is_told(
    policy: str, command: Command, host: Host, a_list: Write
) -> None:
    host.configure(policy)
    ran = command("enroll", "--from", a_list("alice\nbob"), "--json")
    assert ran.code == 0
    assert ran.err.startswith("pam-totp: logins of 2 of them do not ask for the first code, as it is configured here")
    assert 'unenrolled = "enroll"' in ran.err


@pytest.mark.parametrize(
    "text",
    [
        f"user,label,secret\nalice,fob,{SECRET}\n",
        f"\ufeffLabel, Secret ,USER\r\nfob,{SECRET},alice\r\n",
        f'# of the old host\nuser,label,secret\n"alice","fob","{SECRET}===="\n',
        json.dumps({"user": "alice", "label": "fob", "secret": SECRET}) + "\n",
    ],
)
def test_secrets_may_be_brought_along_in_csv_or_json_lines(
    text: str, command: Command, host: Host, a_list: Write
) -> None:
    ran = command("enroll", "--from", a_list(text))
    assert (ran.code, ran.out) == (0, "1 user pending: alice\n")
    pending = host.account().pending
    assert pending is not None
    assert (pending.label, pending.secret) == ("fob", RAW)
    assert host.login("alice").reason == "pending"


def test_secrets_that_users_have_already_count_at_once_where_that_is_said(
    command: Command, host: Host, journal: list[tuple[int, str]]
) -> None:
    ran = command("enroll", "--from", "-", "--active", piped=f"user,secret\nalice,{SECRET}\nbob,{SECRET}\n")
    assert (ran.code, ran.out, ran.err) == (0, "2 users active: alice, bob\n", "")
    assert host.login("alice", host.code(RAW)).reason == "code"
    assert host.login("alice", host.code(RAW)).reason == "spent-code"
    assert host.account(BOB).enrolled == int(host.wall)
    assert journal[0][1].endswith('user=alice action=enroll by=root detail="label phone, active"')


def test_new_keys_are_shown_to_somebody_and_do_not_count_without_a_code(
    command: Command, host: Host, a_list: Write
) -> None:
    before = host.snapshot()
    ran = command("enroll", "--from", a_list("alice\n"))
    assert (ran.code, "add --handout DIR or --json" in ran.err) == (2, True)
    ran = command("enroll", "--from", a_list("alice\n"), "--active", "--json")
    assert (ran.code, "the list has some without" in ran.err) == (2, True)
    assert host.snapshot() == before


def test_the_same_list_can_be_given_again(command: Command, host: Host, a_list: Write, passwd: Passwd) -> None:
    passwd.add("carol", 1003)
    host.enroll(BOB)
    first = {each["user"]: each for each in objects(command("enroll", "--from", a_list("alice\nbob\n"), "--json"))}
    assert {name: each["result"] for name, each in first.items()} == {"alice": "pending", "bob": "enrolled already"}
    assert "secret" not in first["bob"]
    again = {each["user"]: each for each in objects(command("enroll", "--from", a_list("alice\nbob\ncarol"), "--json"))}
    assert {name: each["result"] for name, each in again.items()} == {
        "alice": "pending already",
        "bob": "enrolled already",
        "carol": "pending",
    }
    pending = host.account().pending
    assert pending is not None
    assert base64.b32encode(pending.secret).decode() == first["alice"]["secret"]
    ran = command("enroll", "--from", a_list("alice\n"), "--json", "--replace")
    assert objects(ran)[0]["secret"] != first["alice"]["secret"]


def test_a_further_authenticator_is_made_only_where_the_list_names_one(
    command: Command, host: Host, a_list: Write
) -> None:
    secret = host.enroll()
    ran = command("enroll", "--from", a_list("user,label\nalice,phone\n"), "--json")
    assert objects(ran)[0]["result"] == "enrolled already"
    ran = command("enroll", "--from", a_list("user,label\nalice,fob\n"), "--json")
    assert objects(ran)[0]["result"] == "pending"
    assert sorted((each.label, each.state) for each in host.account().authenticators) == [
        ("fob", "pending"),
        ("phone", "active"),
    ]
    assert host.login("alice", host.code(secret)).reason == "code"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alice\nmallory\nbob\n", ["line 2: no such user: 'mallory'"]),
        ("alice\nbob\nalice\n", ["line 3: alice is there already, in line 1"]),
        (
            "user,secret\nalice,1!\nbob,ABCD\n",
            ["line 2: alice: the secret is not base32", "line 3: bob: the secret has 2"],
        ),
        ("user,label\nalice,a:b\n", ["line 2: alice: a label has"]),
        ("user,key\nalice,x\n", ["line 1: there may be user, label, secret, and nothing else"]),
        ("alice,phone\n", ["line 1: 2 cells", "the first line names the columns"]),
        ("user,label\nalice\n", ["line 2: 1 cells"]),
        ('{"user": "alice"\n{"user": 7}\n', ["line 1: not a JSON object", "line 2: every value must be a string"]),
        ('{"user": "alice", "code": "1"}\n', ["line 1: there may be"]),
        ('alice\n"bob\n', ["line 2: "]),
        ("user\nuser\n", ["line 2: no such user"]),
        ("# nobody\n\n", ["the list names nobody"]),
        ("[" * 100_000, ["line 1: no such user"]),
        ('{"user":' * 100_000, ["line 1: not a JSON object"]),
    ],
    ids=range(14),
)
def test_a_mistake_in_a_line_is_named_and_nothing_is_changed(
    text: str, said: list[str], command: Command, host: Host, a_list: Write, pages: Path
) -> None:
    before = host.snapshot()
    ran = command("enroll", "--from", a_list(text), "--handout", str(pages))
    assert (ran.code, ran.out) == (2, "")
    for each in said:
        assert each in ran.err[:4000], ran.err[:500]
    assert host.snapshot() == before
    assert not pages.exists()
    assert not Path(f"{pages}.part").exists()


def test_a_secret_is_not_repeated_in_what_is_said_of_its_line(command: Command, a_list: Write) -> None:
    for text in (f"user,secret\nalice,{SECRET}8\n", f'{{"secret": "{SECRET}"\n', f"user\nalice,{SECRET}\n"):
        ran = command("enroll", "--from", a_list(text))
        assert ran.code == 2
        assert SECRET[:9] not in ran.err


def test_many_mistakes_are_counted(command: Command, a_list: Write) -> None:
    ran = command("enroll", "--from", a_list("".join(f"nobody{number}\n" for number in range(50))), "--json")
    assert ran.code == 2
    assert ran.err.endswith("\n  line 20: no such user: 'nobody19'\n  and 30 more\n")


def test_a_heading_that_may_be_a_name_is_not_guessed_at(command: Command, a_list: Write, passwd: Passwd) -> None:
    passwd.add("user", 1009)
    ran = command("enroll", "--from", a_list("user\nalice\n"), "--json")
    assert (ran.code, "a heading or a name" in ran.err) == (2, True)


def test_a_file_with_secrets_must_be_closed_to_others(command: Command, host: Host, a_list: Write) -> None:
    path = a_list(f"user,secret\nalice,{SECRET}\n")
    os.chmod(path, 0o640)
    ran = command("enroll", "--from", path)
    assert (ran.code, f"chmod go= {path}" in ran.err) == (2, True)
    assert host.account().empty
    names = a_list("alice\n")
    os.chmod(names, 0o644)
    assert command("enroll", "--from", names, "--json").code == 0


@pytest.mark.parametrize("content", [b"\xff\xfe", b"alice\n" * 3_000_000], ids=["not UTF-8", "huge"])
def test_what_is_no_list_is_refused(content: bytes, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(content)
    ran = command("enroll", "--from", str(path), "--json")
    assert (ran.code, ran.out) == (2, "")
    assert command("enroll", "--from", "/nowhere/list", "--json").code == 3


# All or none


def test_one_who_cannot_be_enrolled_keeps_all_from_it(
    command: Command, host: Host, a_list: Write, passwd: Passwd, pages: Path
) -> None:
    host.enroll(BOB)
    passwd.add("bob", 1005)
    passwd.add("alias", ALICE.uid)
    ran = command("enroll", "--from", a_list("alice\nbob\n"), "--handout", str(pages))
    assert (ran.code, "line 2: bob: bob was enrolled with uid 1002" in ran.err) == (2, True)
    assert host.account().empty
    assert not pages.exists()
    host.enroll(ALICE)
    ran = command("enroll", "--from", a_list("alias\n"), "--json")
    assert (ran.code, "is another name of alice" in ran.err) == (2, True)


@pytest.mark.parametrize("verb", ["enroll", "invite"])
def test_on_a_full_disk_nothing_is_changed_and_no_page_is_left(
    verb: str, command: Command, host: Host, a_list: Write, disk: Disk, pages: Path
) -> None:
    disk.full = True
    ran = command(verb, "--from", a_list("alice\nbob\n"), "--handout", str(pages))
    assert (ran.code, ran.out) == (3, "")
    disk.full = False
    assert host.account().empty
    assert not pages.exists()
    assert not Path(f"{pages}.part").exists()


def test_where_the_second_of_two_cannot_be_written_the_first_is_not_either(
    command: Command, host: Host, a_list: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Accounts._write

    def fail(this: Accounts, account: object) -> bytes:
        if getattr(account, "name", "") == "bob":
            raise OSError(5, "Input/output error", "cache.db")
        return write(this, account)  # type: ignore[arg-type]  # it is an Account

    before = host.snapshot()
    monkeypatch.setattr(Accounts, "_write", fail)
    assert command("enroll", "--from", a_list("alice\nbob\n"), "--json").code == 3
    monkeypatch.undo()
    assert host.snapshot() == before


@pytest.mark.parametrize("verb", ["enroll", "invite"])
def test_who_enrols_while_the_pages_are_drawn_is_seen(
    verb: str, command: Command, host: Host, a_list: Write, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Accounts.lock

    def first(this: Accounts, name: str) -> object:
        monkeypatch.setattr(Accounts, "lock", lock)
        host.enroll(ALICE)
        return lock(this, name)

    monkeypatch.setattr(Accounts, "lock", first)
    ran = command(verb, "--from", a_list("alice\nbob\n"), "--handout", str(pages))
    assert (ran.code, "meanwhile, and nothing was changed" in ran.err) == (2, True)
    assert host.account(ALICE).active
    assert host.account(BOB).empty
    assert not pages.exists()


def test_a_directory_that_is_there_or_not_safe_gets_no_pages(
    command: Command, host: Host, a_list: Write, tmp_path: Path, pages: Path
) -> None:
    names = a_list("alice\n")
    pages.mkdir()
    assert "is there already" in command("enroll", "--from", names, "--handout", str(pages)).err
    pages.rmdir()
    (tmp_path / "pages.part").mkdir()
    assert "it was broken off" in command("enroll", "--from", names, "--handout", str(pages)).err
    (tmp_path / "pages.part").rmdir()
    assert "make it first" in command("enroll", "--from", names, "--handout", str(tmp_path / "x" / "pages")).err
    tmp_path.chmod(0o777)
    ran = command("enroll", "--from", names, "--handout", str(pages))
    assert (ran.code, "would not be safe there" in ran.err) == (2, True)
    tmp_path.chmod(0o700)
    pages.symlink_to("/tmp")
    assert command("enroll", "--from", names, "--handout", str(pages)).code == 2
    assert host.account().empty


@pytest.mark.parametrize(
    "words",
    [
        *(["enroll"], ["enroll", "alice", "--from", "x"], ["enroll", "--from", "x", "--group", "g"]),
        *(["enroll", "alice", "--handout", "x"], ["enroll", "alice", "--active"], ["invite", "alice", "--group", "g"]),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(words: list[str], command: Command) -> None:
    ran = command(*words)
    assert (ran.code, ran.out) == (2, "")


# Inviting


def test_a_group_is_invited_with_a_page_for_each(
    command: Command, host: Host, pages: Path, passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwd.add("carol", 1003)  # of the primary group 1003
    monkeypatch.setattr(nss, "group", lambda name: [(1003, frozenset({b"alice", b"bob"}))] if name == b"staff" else [])
    host.enroll(BOB)
    host.configure('unenrolled = "invite"\n')
    ran = command("invite", "--group", "staff", "--valid", "7d", "--handout", str(pages))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "2 users invited, valid until 2023-11-21 22:13 UTC: alice, carol\n"
        f"1 user enrolled already: bob\npages: {pages}/USER.svg, for root only\n"
    )
    assert sorted(os.listdir(pages)) == ["alice.svg", "carol.svg"]
    page = (pages / "alice.svg").read_text()
    assert "before 2023-11-21 22:13 UTC." in " ".join(page.split())
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        words = page.replace("<", " ").replace(">", " ").split()
        assert any(invitation.matches(account, word, accounts.sealer) for word in words)
    assert command("invite", "--group", "nobodys").code == 2


def test_codes_are_printed_where_there_are_no_pages_and_invitations_that_hold_are_left(
    command: Command, host: Host, a_list: Write
) -> None:
    kept = command("invite", "alice").out.strip()
    ran = command("invite", "--from", a_list("alice\nbob\n"))
    assert ran.code == 0
    assert ran.err.startswith("pam-totp: logins of 1 of them do not ask for an invitation")
    assert 'unenrolled = "invite"' in ran.err
    table, _, told = ran.out.partition("\n1 user invited")
    assert table.split()[:3] == ["USER", "INVITATION", "bob"]
    assert "invited already (--replace voids that): alice" in told
    with host.accounts() as accounts:
        assert invitation.matches(accounts.find(ALICE), kept, accounts.sealer)
        assert invitation.matches(accounts.find(BOB), table.split()[3], accounts.sealer)
    [alice] = objects(command("invite", "--from", a_list("alice"), "--replace", "--json"))
    assert (alice["result"], alice["until"]) == ("invited", "2023-11-17T22:13:45Z")
    with host.accounts() as accounts:
        assert invitation.matches(accounts.find(ALICE), alice["code"], accounts.sealer)
        assert not invitation.matches(accounts.find(ALICE), kept, accounts.sealer)
    ran = command("invite", "--from", a_list("user,label\nalice,x\n"))
    assert (ran.code, "there may be user, and nothing else" in ran.err) == (2, True)


# Hundreds


def test_hundreds_of_users_take_seconds_and_the_progress_is_shown(
    command: Command,
    host: Host,
    a_list: Write,
    pages: Path,
    passwd: Passwd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"user{number:03}" for number in range(500)]
    for number, name in enumerate(names):
        passwd.add(name, 2000 + number)
    host.enroll(User("user007", 2007), state=PENDING)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    start = time.process_time()
    ran = command("enroll", "--from", a_list("\n".join(names)), "--handout", str(pages))
    assert ran.code == 0
    # 3 s, of which the pictures take most; a busy machine is no reason to fail, so it is this process' own time.
    assert time.process_time() - start < 30
    assert "\rpages: 250 of 500 " in ran.err
    assert ran.out.startswith(
        "499 users pending: user000, user001, user002, user003, user004 and 494 more\n1 user pending"
    )
    assert len(os.listdir(pages)) == 499
    assert command("status").code == 0
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_more_users_than_files_may_be_open_are_refused_before_anything_is_changed(
    command: Command, host: Host, a_list: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 65))
    ran = command("enroll", "--from", a_list("alice\nbob"), "--json")
    assert (ran.code, "split the list" in ran.err) == (2, True)
    assert host.account().empty
