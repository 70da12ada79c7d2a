"""The line in syslog, which nobody can forge."""

from __future__ import annotations

import ast
import os
import re
import socket
import sys
import syslog
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp import errors
from pam_totp.login import log
from pam_totp.login.attempt import Outcome, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whatever PAM, NSS and sudo can hand over: text, and bytes that are none.
VALUES = st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")), st.text(' ="\\\n,x'))
FIELD = re.compile(r'(\w+)=("[^"]*"|[^" =]*)(?: |$)')


def fields(line: str) -> list[tuple[str, str]]:
    """The line taken apart as its documentation says, with nothing left over."""
    found = FIELD.findall(line)
    assert "".join(match.group() for match in FIELD.finditer(line)) == line
    return found


@given(VALUES, VALUES, VALUES)
def test_no_value_forges_a_field_or_a_line(user: str, rhost: str, detail: str) -> None:
    line = log.line(user=user, service="sshd", rhost=rhost, outcome="refused", detail=detail)
    assert re.fullmatch(r"[ -~]*", line)
    given = {"user": user, "service": "sshd", "rhost": rhost, "outcome": "refused", "detail": detail}
    assert [key for key, _ in fields(line)] == [key for key, value in given.items() if value]


@given(VALUES)
def test_no_service_forges_a_line(service: str) -> None:
    assert re.fullmatch(r"pam_totp\([ -~]+:auth\)", log.prefix(service, "auth"))
    assert re.fullmatch(r'pam_totp\("[ -~]+":auth\)', log.prefix(f"{service} x", "auth"))


@given(VALUES)
def test_a_value_of_ordinary_length_can_be_read_back(value: str) -> None:
    cut = value[:100]
    if cut:
        [(_, shown)] = fields(log.line(user=cut))
        raw = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), shown.strip('"').encode())
        assert raw == cut.encode("utf-8", "surrogateescape")


@given(VALUES, VALUES)
def test_different_values_are_shown_differently(one: str, other: str) -> None:
    assert (log.line(user=one[:200]) == log.line(user=other[:200])) == (one[:200] == other[:200])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("alice", "user=alice"),
        ("", ""),
        ("two words", 'user="two words"'),
        ("a=b", 'user="a=b"'),
        ('say "no"', r'user="say \x22no\x22"'),
        ("\\x41", r"user=\x5cx41"),
        ("x\noutcome=accepted", r'user="x\x0aoutcome=accepted"'),
        ("Zoë", r"user=Zo\xc3\xab"),
        ("\x00\x1b[2J", r"user=\x00\x1b[2J"),
        ("\udcff", r"user=\xff"),
    ],
)
def test_a_value_is_quoted_and_escaped_where_it_has_to_be(value: str, shown: str) -> None:
    assert log.line(user=value) == shown


def test_a_long_value_is_cut() -> None:
    assert log.line(user="x" * 256) == "user=" + "x" * 256
    assert log.line(user="x" * 257) == "user=" + "x" * 256 + "..."


def test_the_fields_keep_their_order_and_empty_ones_are_left_out() -> None:
    assert log.line(outcome="accepted", detail="", user="alice") == "outcome=accepted user=alice"


def test_a_line_goes_to_authpriv_under_the_name_of_the_program(
    monkeypatch: pytest.MonkeyPatch, journal: list[tuple[int, str]]
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(syslog, "openlog", lambda *ident, **options: calls.append((ident, options)))
    monkeypatch.setattr(syslog, "closelog", lambda: calls.append("closed"))
    log.send(log.NOTICE, "pam_totp(sshd:auth)", "user=alice")
    assert journal == [(syslog.LOG_AUTHPRIV | syslog.LOG_NOTICE, "pam_totp(sshd:auth): user=alice")]
    assert calls == [((), {"logoption": syslog.LOG_PID, "facility": syslog.LOG_AUTHPRIV}), "closed"]


def reasons() -> set[str]:
    """The reasons that stand in the code: of errors, outcomes and decisions. The directory has none of logins."""
    found = {kind.reason for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "reason")}
    package = Path(log.__file__).parents[1]
    for path in set(package.rglob("*.py")) - set((package / "directory").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.fullmatch(
                r"\w+Error|Outcome|(\w+\.)?Decision", ast.unparse(node.func)
            ):
                found |= {
                    each.value
                    for each in node.args[1:2]
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
    return found - {errors.UsageError.reason, errors.KeeperError.reason, "enrolled"}


def test_every_reason_is_documented() -> None:
    page = (Path(log.__file__).parents[2] / "docs" / "log.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", page))
    assert {"cache-damaged", "throttled", "malformed-code"} < reasons()
    assert reasons() - documented == set()


# journald


class Journald:
    """What listens where journald does."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        monkeypatch.setattr(log, "JOURNAL", str(path))
        monkeypatch.setattr(sys, "argv", ["/usr/sbin/sshd"])

    def fields(self) -> dict[str, str]:
        """The one message that came, in fields as the protocol has them: no value in it has a newline."""
        return dict(line.split("=", 1) for line in self.socket.recv(65536).decode("ascii").rstrip("\n").split("\n"))


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    listening = Journald(tmp_path / "socket", monkeypatch)
    with listening.socket:
        yield listening


REQUEST = Request("alice", "sshd", "192.0.2.7")


def test_a_decision_has_a_field_for_each_part_in_the_journal_and_the_same_line(
    journald: Journald, journal: list[tuple[int, str]]
) -> None:
    text = log.decision(REQUEST, Outcome("refused", "wrong-code", "1 wrong in a row"))
    assert journald.fields() == {
        "MESSAGE": f"pam_totp(sshd:auth): {text}",
        "PRIORITY": str(syslog.LOG_NOTICE),
        "SYSLOG_FACILITY": "10",
        "SYSLOG_IDENTIFIER": "sshd",
        "SYSLOG_PID": str(os.getpid()),
        "PAM_TOTP_USER": "alice",
        "PAM_TOTP_SERVICE": "sshd",
        "PAM_TOTP_RHOST": "192.0.2.7",
        "PAM_TOTP_OUTCOME": "refused",
        "PAM_TOTP_REASON": "wrong-code",
        "PAM_TOTP_DETAIL": "1 wrong in a row",
    }
    assert journal == []


def test_no_name_forges_a_field_of_the_journal(journald: Journald) -> None:
    log.decision(Request("x\nPRIORITY=0\nPAM_TOTP_OUTCOME=accepted", "sshd", "h\n"), Outcome("refused", "locked"))
    found = journald.fields()
    assert found["PAM_TOTP_USER"] == r"x\x0aPRIORITY=0\x0aPAM_TOTP_OUTCOME=accepted"
    assert (found["PAM_TOTP_OUTCOME"], found["PRIORITY"]) == ("refused", str(syslog.LOG_NOTICE))


@pytest.mark.parametrize("how", ["nobody listens", "it is full", "the program has no name"])
def test_where_journald_does_not_take_it_syslog_has_it(
    how: str, journald: Journald, journal: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "nobody listens":
        journald.socket.close()
    elif how == "it is full":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
            other.setblocking(False)
            while True:
                other.sendto(b"x", log.JOURNAL)
    else:
        monkeypatch.delattr(sys, "argv")
    text = log.decision(REQUEST, Outcome("accepted", "code"))
    assert journal == [(syslog.LOG_AUTHPRIV | syslog.LOG_INFO, f"pam_totp(sshd:auth): {text}")]
