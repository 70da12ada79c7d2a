"""The line in syslog, which nobody can forge."""

from __future__ import annotations

import ast
import re
import syslog
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp import errors
from pam_totp.login import log

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
    """The reasons that stand in the code: of errors, outcomes and decisions."""
    found = {kind.reason for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "reason")}
    for path in Path(log.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.fullmatch(
                r"\w+Error|Outcome|(\w+\.)?Decision", ast.unparse(node.func)
            ):
                found |= {
                    each.value
                    for each in node.args[1:2]
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
    return found - {errors.UsageError.reason, "enrolled"}


def test_every_reason_is_documented() -> None:
    page = (Path(log.__file__).parents[2] / "docs" / "log.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", page))
    assert {"cache-damaged", "throttled", "malformed-code"} < reasons()
    assert reasons() - documented == set()
