"""The log: one line for each decision, in one format, and never a code, a secret or anything else that was typed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.login.host import Host

if TYPE_CHECKING:
    from tests.lab.machine import Machine

pytestmark = pytest.mark.usefixtures("key_and_code")

LINE = re.compile(
    r"pam_totp\(sshd:auth\): user=(?P<user>\S+) service=sshd rhost=127\.0\.0\.5 outcome=(?P<outcome>[a-z-]+)"
    r' reason=(?P<reason>[a-z-]+)(?: detail=(?:"[^"]*"|\S+))?'
)


def only_line(host: Host, since: int) -> tuple[str, str, str, str]:
    """The severity, user, outcome and reason of the one line since a mark; all of the module's lines are looked at."""
    records = [record for record in host.machine.log(since) if "pam_totp" in str(record)]
    assert len(records) == 1, list(map(str, records))
    (record,) = records
    assert record.facility == "authpriv"
    assert record.program.startswith("sshd")
    assert record.pid > 0
    match = LINE.fullmatch(record.message)
    assert match, record.message
    return record.severity, match["user"], match["outcome"], match["reason"]


def test_an_accepted_login_writes_one_line(host: Host) -> None:
    alice = host.person()
    mark = host.machine.mark()
    assert alice.log_in(alice.code(), source="127.0.0.5").ok
    assert only_line(host, mark) == ("info", alice.name, "accepted", "code")


def test_a_refused_login_writes_one_line(host: Host) -> None:
    alice = host.person()
    mark = host.machine.mark()
    assert not alice.log_in(alice.wrong(), source="127.0.0.5").ok
    assert only_line(host, mark) == ("notice", alice.name, "refused", "wrong-code")


@pytest.mark.parametrize("reason", ["not-enrolled", "pending"])
def test_a_login_that_is_not_asked_writes_one_line(host: Host, reason: str) -> None:
    bob = host.person(enrolled=False, pending=reason == "pending")
    mark = host.machine.mark()
    assert bob.log_in(source="127.0.0.5").ok
    assert only_line(host, mark) == ("info", bob.name, "skipped", reason)


def test_a_configuration_that_is_not_understood_writes_one_line(host: Host) -> None:
    alice = host.person()
    mark = host.machine.mark()
    with host.config("window = true"):
        assert not alice.log_in(alice.code(), source="127.0.0.5").ok
    assert only_line(host, mark) == ("err", alice.name, "misconfigured", "bad-config")


def test_a_cache_that_cannot_be_used_writes_one_line(host: Host) -> None:
    alice = host.person()
    mark = host.machine.mark()
    host.machine.run(["chmod", "644", "/var/lib/pam-totp/cache.db"])
    try:
        assert not alice.log_in(alice.code(), source="127.0.0.5").ok
    finally:
        host.machine.run(["chmod", "600", "/var/lib/pam-totp/cache.db"])
    assert only_line(host, mark) == ("err", alice.name, "unavailable", "cache-unsafe")


def test_the_latest_refusals_are_shown_by_status(host: Host) -> None:
    alice = host.person()
    assert not alice.log_in(alice.wrong(), source="127.0.0.5").ok
    shown = host.machine.run(["pam-totp", "status", alice.name]).stdout
    assert re.search(rf"user={alice} service=sshd rhost=127\.0\.0\.5 outcome=refused reason=wrong-code", shown)


def test_what_is_typed_at_the_wrong_prompt_is_never_logged(host: Host) -> None:
    alice = host.person()
    assert not alice.log_in("my-bank-password").ok
    assert not any("my-bank-password" in str(record) for record in host.machine.log())
    shown = host.machine.run(["pam-totp", "status", alice.name]).stdout
    assert "malformed-code" in shown
    assert "my-bank-password" not in shown


def test_the_search_for_leaks_at_the_end_of_each_module_finds_codes_and_secrets(fresh_machine: Machine) -> None:
    host = Host(fresh_machine)
    alice = host.person()
    host.close()
    words = [alice.code(), alice.secret, " ".join(re.findall("....", alice.secret)), alice.wrong()]
    assert host.leaks() == []
    for word in words:
        fresh_machine.run(["logger", "--priority", "authpriv.info", f"typed: {word}, wasn't it?"])
    assert len(host.leaks()) == len(words)
