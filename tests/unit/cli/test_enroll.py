"""enroll: a secret that a phone can scan, active after the first right code."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from pam_totp import cli
from pam_totp.cache.accounts import ACTIVE, PENDING, Account
from tests.unit.cli.conftest import CTRL_C
from tests.unit.pretend import ALICE, STEP, Host, code
from tests.unit.scan import scan

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Command, Ran
    from tests.unit.conftest import Disk, Passwd


def secret_of(ran: Ran) -> bytes:
    """The secret in the key's line."""
    [key] = re.findall(r"^  key  ([A-Z2-7 ]+)$", ran.out, re.MULTILINE)
    return base64.b32decode(key.replace(" ", ""))


def uri_of(ran: Ran) -> str:
    [uri] = re.findall(r"^  uri  (otpauth://\S+)$", ran.out, re.MULTILINE)
    return str(uri)


def picture_of(ran: Ran) -> str:
    return "\n".join(line for line in ran.out.split("\n") if line and set(line) <= set(" #█▀▄"))


def pending_secret(host: Host) -> bytes:
    pending = host.account().pending
    assert pending is not None
    return pending.secret


class Later:
    """A line that is typed when the question comes: the code is only known then."""

    def __init__(self, host: Host, *steps: int | str) -> None:
        self.host = host
        self.steps = list(steps)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        step = self.steps.pop(0)
        if isinstance(step, str):
            return step
        return self.host.code(pending_secret(self.host), step) + "\n"


def enroll(
    host: Host, capsys: pytest.CaptureFixture[str], *argv: str, steps: tuple[int | str, ...]
) -> tuple[int, str, str]:
    """Enrol alice, who types the codes of these steps."""
    before, sys.stdin = sys.stdin, Later(host, *steps, "n\n")  # no recovery codes
    try:
        code = cli.main(["enroll", "alice", *argv], host.paths)
    finally:
        sys.stdin = before
    return code, *capsys.readouterr()


def labels(account: Account) -> list[tuple[str, str]]:
    return [(each.label, each.state) for each in account.authenticators]


@pytest.mark.parametrize("style", ["utf8", "ascii"])
def test_the_qr_code_scans_and_holds_the_secret(style: str, command: Command, host: Host, tmp_path: Path) -> None:
    ran = command("enroll", "alice", "--qr", style, "--no-confirm")
    assert (ran.code, ran.err) == (0, "")
    uri = scan(picture_of(ran), tmp_path)
    assert uri == uri_of(ran)
    assert parse_qs(urlsplit(uri).query)["secret"] == [base64.b32encode(secret_of(ran)).decode()]
    assert secret_of(ran) == pending_secret(host)
    assert re.search(r"^  key  ([A-Z2-7]{4} ){7}[A-Z2-7]{4}$", ran.out, re.MULTILINE)


def test_blocks_are_the_default_and_none_draws_nothing(command: Command) -> None:
    assert "█" in command("enroll", "alice", "--no-confirm").out
    ran = command("enroll", "alice", "--no-confirm", "--qr", "none", "--replace")
    assert picture_of(ran) == ""
    assert uri_of(ran)


def test_a_terminal_that_cannot_show_blocks_gets_the_other_picture(
    command: Command, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert cli.main(["enroll", "alice", "--no-confirm"], host.paths) == 0
    sys.stdout.flush()
    lines = [line for line in raw.getvalue().decode("ascii").split("\n") if line and set(line) <= set(" #")]
    assert scan("\n".join(lines), tmp_path).startswith("otpauth://")


def test_on_a_light_terminal_it_is_drawn_so_that_it_scans(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLORFGBG", "0;15")
    assert scan(picture_of(command("enroll", "alice", "--no-confirm")), tmp_path).startswith("otpauth://")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((200, 24)))
    ran = command("enroll", "alice", "--no-confirm", "--replace")
    assert picture_of(ran).startswith("    ")
    assert scan(picture_of(ran), tmp_path, light=True) == uri_of(ran)
    # Whoever says how wants it so.
    assert picture_of(command("enroll", "alice", "--no-confirm", "--replace", "--qr", "utf8")).startswith("██")


@pytest.mark.usefixtures("quick_hash", "command")
def test_recovery_codes_are_offered_once_the_code_is_right(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Later(host, "no code\n", 0, "y\n")
    monkeypatch.setattr(sys, "stdin", later)
    assert cli.main(["enroll", "alice"], host.paths) == 0
    out = capsys.readouterr().out
    assert "Print recovery codes too, for the day the phone is gone? [y/N] " in out
    codes = re.findall(r"\b[a-z2-9]{5}-[a-z2-9]{5}\b", out)
    assert len(codes) == 10
    assert host.login("alice", codes[3]).reason == "recovery-code"
    # Who has some is not offered others: they would void them.
    monkeypatch.setattr(sys, "stdin", Later(host, 1))
    assert cli.main(["enroll", "alice", "--label", "fob"], host.paths) == 0
    assert "recovery" not in capsys.readouterr().out


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_who_wants_none_is_told_how_to_get_them_later(
    answer: str, host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Later(host, 0, answer))
    assert cli.main(["enroll", "alice"], host.paths) == 0
    assert capsys.readouterr().out.endswith("Later: pam-totp recovery alice\n")
    assert host.account().ledger.recovery is None


def test_breaking_off_at_the_offer_leaves_the_user_enrolled(command: Command, host: Host) -> None:
    secret = host.enroll(state=PENDING)
    ran = command("confirm", "alice", typed=(host.code(secret) + "\n", CTRL_C))
    assert (ran.code, host.account().state) == (0, "active")
    assert ran.out.endswith("Later: pam-totp recovery alice\n")


@pytest.mark.parametrize(("columns", "fits"), [(200, True), (30, False)])
def test_a_picture_that_would_wrap_is_not_drawn(
    columns: int, fits: bool, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((columns, 24)))
    ran = command("enroll", "alice", "--no-confirm")
    assert ("█" in ran.out) == fits
    assert ("too narrow" in ran.out) == (not fits)
    assert secret_of(ran)


def test_the_first_right_code_activates_and_is_spent(
    command: Command, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = enroll(host, capsys, steps=(0,))
    assert (code, labels(host.account())) == (0, [("phone", ACTIVE)])
    assert "alice is enrolled: log in with the next code." in out
    assert err == "Code from the app: "
    secret = host.secret("alice")
    assert host.login("alice", host.code(secret)).reason == "spent-code"
    host.later(STEP)
    assert host.login("alice", host.code(secret)).reason == "code"


def test_a_wrong_code_asks_again(command: Command, host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    steps = (500, "12345\n", "abcdef\n", "\n", 3, -3, 1)
    code, _, err = enroll(host, capsys, steps=steps)
    assert (code, labels(host.account())) == (0, [("phone", ACTIVE)])
    assert err.count("Code from the app: ") == len(steps)
    assert "that code is wrong: take the one the app shows now" in err
    assert err.count("six digits, please") == 3
    assert "that code is right, but 90 s ahead: set the clock" in err
    assert "that code is right, but 90 s behind: set the clock" in err


@pytest.mark.parametrize("end", [CTRL_C, ""])
def test_breaking_off_leaves_it_pending_and_says_how_to_go_on(
    end: str | type[KeyboardInterrupt], command: Command, host: Host
) -> None:
    ran = command("enroll", "alice", typed=("111111\n", end))
    assert ran.code == 1
    assert "pam-totp confirm alice" in ran.err
    assert labels(host.account()) == [("phone", PENDING)]
    assert host.login("alice").reason == "pending"


def test_without_confirmation_it_is_pending_at_once(command: Command, host: Host) -> None:
    ran = command("enroll", "alice", "--no-confirm")
    assert ran.code == 0
    assert "Pending: alice is not asked for a code before pam-totp confirm alice" in ran.out
    assert labels(host.account()) == [("phone", PENDING)]


def test_json_is_one_document_with_the_secret(command: Command, host: Host) -> None:
    ran = command("enroll", "alice", "--label", "fob", "--no-confirm", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert list(ran.json) == ["user", "label", "state", "secret", "uri"]
    assert (ran.json["user"], ran.json["label"], ran.json["state"]) == ("alice", "fob", "pending")
    assert base64.b32decode(ran.json["secret"]) == pending_secret(host)
    assert parse_qs(urlsplit(ran.json["uri"]).query)["secret"] == [ran.json["secret"]]
    assert ran.out == json.dumps(ran.json) + "\n"


def test_json_without_no_confirm_is_refused_before_anything_is_changed(command: Command, host: Host) -> None:
    ran = command("enroll", "alice", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "--no-confirm" in ran.err
    assert host.account().empty


@pytest.mark.parametrize("name", ["mallory", "", "../alice", "alice\n", "\udcff"])
def test_a_user_unknown_to_nss_is_refused(name: str, command: Command, host: Host) -> None:
    ran = command("enroll", name, "--no-confirm")
    assert (ran.code, ran.out) == (2, "")
    assert "no such user" in ran.err
    with host.accounts() as accounts:
        assert accounts.names() == []


@pytest.mark.parametrize("label", ["", "x" * 33, "a:b", "a\nb"])
def test_a_label_that_is_none_is_refused(label: str, command: Command, host: Host) -> None:
    ran = command("enroll", "alice", "--no-confirm", "--label", label)
    assert (ran.code, ran.out) == (2, "")
    assert host.account().empty


def test_an_enrolment_anew_keeps_the_old_one_until_it_is_confirmed(
    command: Command, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    old = host.enroll()
    command("enroll", "alice", typed=(CTRL_C,))
    assert sorted(labels(host.account())) == [("phone", ACTIVE), ("phone", PENDING)]
    assert host.login("alice", host.code(old)).reason == "code"
    code, *_ = enroll(host, capsys, "--replace", steps=(0,))
    assert (code, labels(host.account())) == (0, [("phone", ACTIVE)])
    host.later(STEP)
    assert host.login("alice", host.code(old)).reason == "wrong-code"
    assert host.login("alice", host.code(host.secret("alice"))).reason == "code"


def test_a_second_authenticator_works_beside_the_first(
    command: Command, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    phone = host.enroll()
    assert enroll(host, capsys, "--label", "fob", steps=(0,))[0] == 0
    assert sorted(labels(host.account())) == [("fob", ACTIVE), ("phone", ACTIVE)]
    assert host.login("alice", host.code(phone)).reason == "code"


def test_five_authenticators_are_the_most(command: Command, host: Host) -> None:
    for label in "abcde":
        host.enroll(ALICE, label)
    ran = command("enroll", "alice", "--label", "f", "--no-confirm")
    assert (ran.code, ran.out) == (2, "")
    assert "5 authenticators, which is the most" in ran.err
    assert "reset alice --label" in ran.err
    assert command("enroll", "alice", "--label", "e", "--no-confirm").code == 0


def test_enrolling_twice_voids_the_first_key(command: Command, host: Host) -> None:
    first = secret_of(command("enroll", "alice", "--no-confirm"))
    second = secret_of(command("enroll", "alice", "--no-confirm", "--replace"))
    assert first != second
    assert pending_secret(host) == second
    ran = command("confirm", "alice", piped=code(first, int(host.wall // STEP)) + "\n")
    assert ran.code == 1


def test_a_pending_one_is_not_voided_without_a_word(command: Command, host: Host) -> None:
    first = secret_of(command("enroll", "alice", "--no-confirm"))
    ran = command("enroll", "alice", "--no-confirm", "--label", "fob", piped="")
    assert (ran.code, ran.out) == (2, "")
    assert "alice has a pending authenticator already (phone, of 2023-11-14 22:13 UTC)" in ran.err
    assert "pam-totp confirm alice, or void it with --replace" in ran.err
    ran = command("enroll", "alice", "--no-confirm", typed=("n\n",))
    assert (ran.code, ran.out.endswith("[y/N] nothing changed\n")) == (1, True)
    assert pending_secret(host) == first
    second = secret_of(command("enroll", "alice", "--no-confirm", typed=("y\n",)))
    assert pending_secret(host) == second != first


def test_one_that_somebody_else_makes_while_it_asks_is_not_voided(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll(state=PENDING)

    def meanwhile(_: str) -> bool:
        host.change(lambda account: account.authenticators.clear())
        host.enroll(ALICE, "fob", PENDING)
        return True

    monkeypatch.setattr("pam_totp.cli.common.sure", meanwhile)
    ran = command("enroll", "alice", "--no-confirm", typed=())
    assert (ran.code, "meanwhile" in ran.err) == (2, True)
    assert labels(host.account()) == [("fob", PENDING)]


def test_another_name_of_an_enrolled_user_is_refused(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alias", ALICE.uid)
    ran = command("enroll", "alias", "--no-confirm")
    assert ran.code == 2
    assert "enrol alice" in ran.err


def test_a_name_with_another_uid_is_refused(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alice", 1005)
    ran = command("enroll", "alice", "--no-confirm")
    assert (ran.code, ran.out) == (3, "")
    assert "pam-totp adopt alice" in ran.err


def test_on_a_full_disk_no_secret_is_shown(command: Command, host: Host, disk: Disk) -> None:
    disk.full = True
    ran = command("enroll", "alice", "--no-confirm")
    assert (ran.code, ran.out) == (3, "")
    assert "free space" in ran.err


def test_a_broken_configuration_is_refused_before_anything_is_changed(command: Command, host: Host) -> None:
    host.configure("windows = 1")
    ran = command("enroll", "alice", "--no-confirm")
    assert (ran.code, ran.out) == (3, "")
    assert "unknown key 'windows'" in ran.err
    os.unlink(host.paths.config)
    assert host.account().empty


def test_the_issuer_is_that_of_the_configuration(command: Command, host: Host) -> None:
    host.configure('issuer = "Example Ltd"\n')
    assert "issuer=Example%20Ltd" in uri_of(command("enroll", "alice", "--no-confirm"))


def test_the_secret_is_in_no_log_and_no_file(command: Command, host: Host, journal: list[tuple[int, str]]) -> None:
    secret = secret_of(command("enroll", "alice", "--no-confirm"))
    assert [line for _, line in journal] == ['pam-totp: user=alice action=enroll by=root detail="label phone, pending"']
    for directory, _, names in os.walk(host.root):
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                content = file.read()
            assert secret not in content
            assert base64.b32encode(secret) not in content


def test_somebody_without_a_unix_account_is_enrolled_where_that_is_said(command: Command, host: Host) -> None:
    assert command("enroll", "carol", "--no-confirm").code == 2
    ran = command("enroll", "carol", "--no-account", "--no-confirm", "--json")
    secret = base64.b32decode(ran.json["secret"])
    assert command("confirm", "carol", piped=f"{host.code(secret)}\n").code == 0
    assert command("check", "carol", typed=(f"{host.code(secret, 1)}\n",)).code == 0
    assert command("status", "carol").out.splitlines()[1].startswith("carol (no Unix account)  active")
    # A further one needs no further word.
    assert command("enroll", "carol", "--label", "tablet", "--no-confirm").code == 0
    assert command("unlock", "carol").code == command("reset", "carol", "--yes").code == 0
    assert host.login("carol").verdict == "unknown-user"


@pytest.mark.parametrize("name", ["a/b", "a:b", "a\nb", ""])
def test_and_only_under_a_name_that_an_account_could_have(name: str, command: Command) -> None:
    ran = command("enroll", name, "--no-account", "--no-confirm")
    assert ran.code == 2
    assert "cannot be a name" in ran.err


def test_nobody_who_has_an_account_is_enrolled_as_if_there_were_none(command: Command) -> None:
    ran = command("enroll", "alice", "--no-account", "--no-confirm")
    assert ran.code == 2
    assert "alice has an account on this host: leave out --no-account" in ran.err
