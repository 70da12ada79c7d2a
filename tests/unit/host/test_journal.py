"""The journal's records as decisions, and lines of the log taken apart."""

from __future__ import annotations

import json

import pytest

from pam_totp.host import journal, programs
from pam_totp.login import log

MESSAGE = 'pam_totp(sshd:auth): user=alice service=sshd rhost=192.0.2.7 outcome=refused reason=wrong-code detail="a b"'


def record(message: object) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": "1700000010999999", "MESSAGE": message}) + "\n"


def test_what_the_log_writes_is_read_back() -> None:
    written = {"user": "-", "service": "sshd", "rhost": "x y", "outcome": "refused", "reason": "r", "detail": "a=b c"}
    assert journal.fields(log.line(**written)) == written


def test_a_name_forges_no_field() -> None:
    line = log.line(user='x" outcome=accepted "', outcome="refused")
    assert journal.fields(line)["outcome"] == "refused"


def test_only_decisions_are_found_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    # What another program logs behind words that a user has chosen.
    named = [
        f"{start}: pam_unix(su:auth): authentication failure"
        for start in (MESSAGE, f"{MESSAGE[:-1]} ", "pam_totp(su:auth): a=b")
    ]
    others = [
        *named,
        MESSAGE + " ",
        MESSAGE + " x",
        MESSAGE.replace("alice", 'a"b'),
        "pam_totp(su:auth): ",
        "sshd: " + MESSAGE,
        "pam_totp: " + MESSAGE,
        [112, 97, 109],
        None,
    ]
    records = [record(each) for each in [*others, MESSAGE]] + ["no json\n"]
    monkeypatch.setattr(programs, "lines", lambda *_: iter(records))
    assert list(journal.decisions(0)) == [(1_700_000_010, MESSAGE.partition(": ")[2])]


@pytest.mark.parametrize("there", [True, False])
def test_a_journal_is_where_journald_keeps_one(
    there: bool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path_factory.mktemp("log")
    monkeypatch.setattr(journal, "DIRECTORIES", (str(directory / ("" if there else "missing")),))
    assert journal.present() is there
