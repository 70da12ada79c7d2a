"""Exemptions: time-boxed, listed, logged at each use."""

from __future__ import annotations

import time

import pytest

from tests.login.host import Host, Person, kinds

pytestmark = pytest.mark.usefixtures("key_and_code")

REASON = "phone broke, new one on Friday"


def exempt(person: Person, *words: str) -> str:
    return person.host.machine.run(["pam-totp", "exempt", person.name, *words]).stdout


def test_who_is_exempt_is_not_asked_each_use_is_logged_and_the_end_ends_it(host: Host) -> None:
    alice = host.person()
    said = exempt(alice, "--until", "2099-12-31", "--reason", REASON)
    assert said == f"{alice} is exempt until 2099-12-31 23:59 UTC: no code is asked for, and each use is logged\n"
    mark = host.machine.mark()
    for _ in range(2):
        result = alice.log_in()
        assert result.ok
        assert kinds(result) == []
    lines = host.decisions(mark)
    assert [(line["outcome"], line["reason"]) for line in lines] == [("skipped", "exempt")] * 2
    assert lines[0]["detail"] == f"reason given: {REASON}"
    records = [record for record in host.machine.log(mark) if "pam_totp(" in record.message]
    assert {record.severity for record in records} == {"notice"}
    assert host.status(alice)["state"] == "exempt"
    listed = host.machine.run(["pam-totp", "exempt"]).stdout
    assert f"{alice}  2099-12-31 23:59  {REASON}\n" in listed
    assert exempt(alice, "--end") == f"{alice} is no longer exempt\n"
    assert kinds(alice.log_in(alice.code())) == ["Verification code:"]
    assert host.machine.run(["pam-totp", "exempt"]).stdout == "nobody is exempt\n"
    assert host.machine.run(["pam-totp", "exempt", alice.name, "--end"], check=False).returncode == 1


def test_an_exemption_ends_by_itself(host: Host) -> None:
    alice = host.person()
    exempt(alice, "--until", "2099-12-31", "--reason", REASON)
    assert kinds(alice.log_in()) == []
    until = time.time() + 5
    exempt(alice, "--until", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until)), "--reason", REASON)
    time.sleep(max(0.0, until - time.time()))
    assert kinds(alice.log_in(alice.code())) == ["Verification code:"]


def test_who_is_not_enrolled_can_be_exempt_from_having_to(host: Host) -> None:
    bob = host.person(enrolled=False)
    with host.config('unenrolled = "deny"'):
        assert not bob.log_in().ok
        exempt(bob, "--until", "2099-12-31", "--reason", REASON)
        assert bob.log_in().ok
        exempt(bob, "--end")
        assert not bob.log_in().ok


def test_an_exemption_needs_no_less_of_a_first_factor(host: Host) -> None:
    alice, mallory = host.person(), host.person()
    exempt(alice, "--until", "2099-12-31", "--reason", REASON)
    assert not alice.log_in(key=mallory.name).ok


@pytest.mark.parametrize(
    "words",
    [
        ("--until", "2099-12-31"),
        ("--reason", REASON),
        ("--until", "2020-01-01", "--reason", REASON),
        ("--until", "never", "--reason", REASON),
    ],
)
def test_there_is_none_without_an_end_in_the_future_and_a_reason(host: Host, words: tuple[str, ...]) -> None:
    assert host.machine.run(["pam-totp", "exempt", "root", *words], check=False).returncode == 2
    assert "root" not in host.machine.run(["pam-totp", "exempt"]).stdout
