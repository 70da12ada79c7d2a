"""What a client is told about a user: a login's answer, and no more than it may know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import PENDING
from pam_totp.factors import recovery
from pam_totp.host.users import User, without_account
from pam_totp.verify import api
from pam_totp.verify.api import Question
from pam_totp.verify.clients import Client
from tests.unit.pretend import ALICE, ELSEWHERE, HERE

if TYPE_CHECKING:
    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host

    Journal = list[tuple[int, str]]

VPN = Client("radius", ["vpn"], may_know=True)
PORTAL = Client("portal", ["web"])
RECORDS = Client("records", ["vpn"], "record", may_know=True)


def start(host: Host, client: Client = VPN, user: str = "alice", source: str = HERE) -> api.Answer:
    return api.start(client, Question(user, client.services[0], source), host.paths, host.now)


def verify(host: Host, code: str, client: Client = VPN, user: str = "alice", source: str = HERE) -> api.Answer:
    return api.verify(client, Question(user, client.services[0], source), code, host.paths, host.now)


def words(answer: api.Answer) -> tuple[str, str]:
    return answer.outcome, answer.reason


def test_a_right_code_is_accepted_once_and_logged_with_the_clients_service(host: Host, journal: Journal) -> None:
    secret = host.enroll()
    assert start(host).outcome == "ask"
    assert journal == []  # a question is no decision
    assert words(verify(host, host.code(secret))) == ("accepted", "code")
    assert journal[-1][1] == f"pam_totp(vpn:auth): user=alice service=vpn rhost={HERE} outcome=accepted reason=code"
    assert words(verify(host, host.code(secret))) == ("refused", "spent-code")


def test_a_code_that_was_used_at_sshd_is_refused_and_the_other_way_round(host: Host) -> None:
    secret = host.enroll()
    assert host.login("alice", host.code(secret)).verdict == "accepted"
    assert words(verify(host, host.code(secret))) == ("refused", "spent-code")
    assert verify(host, host.code(secret, 1)).lets_in
    assert host.login("alice", host.code(secret, 1)).reason == "spent-code"


def test_a_refusal_is_kept_for_the_status_and_holds_no_code(host: Host, journal: Journal) -> None:
    wrong = host.wrong(host.enroll())
    assert words(verify(host, wrong)) == ("refused", "wrong-code")
    with host.accounts() as accounts:
        [(_, line)] = accounts.events("alice")
    assert "service=vpn" in line
    assert wrong not in line + str(journal)


def test_wrong_codes_are_counted_with_those_of_other_doors_but_hold_up_nobody_there(host: Host) -> None:
    secret = host.enroll()
    host.login("alice", host.code(secret))  # so that HERE is usual at sshd
    for _ in range(3):
        verify(host, host.wrong(secret))
    assert words(start(host)) == ("refused", "throttled")
    assert words(verify(host, host.code(secret, 1))) == ("refused", "throttled")
    # Not another client from the same address, nor the same one from elsewhere, nor sshd.
    assert start(host, PORTAL).outcome == start(host, source=ELSEWHERE).outcome == "ask"
    assert host.account().ledger.row == 3
    assert host.login("alice", host.code(secret, 1)).verdict == "accepted"


def test_a_client_that_names_a_usual_address_of_another_door_is_a_stranger(host: Host) -> None:
    secret = host.enroll()
    host.login("alice", host.code(secret))
    for number in range(24):
        verify(host, host.wrong(secret), source=f"198.51.100.{number}")
        host.later(1)
    assert words(start(host)) == ("refused", "throttled")  # the measure of a day is used up for strangers
    assert host.login("alice", host.code(secret, 1)).verdict == "accepted"


def test_a_recovery_code_is_taken_once_and_ends_a_wait(host: Host, quick_hash: None) -> None:
    secret = host.enroll()
    codes: list[str] = []
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        codes = recovery.issue(account.ledger, accounts.sealer)
        accounts.save(account)
    for _ in range(3):
        verify(host, host.wrong(secret))
    asked = start(host)
    assert asked.outcome == "ask"
    assert "Recovery code" in asked.message
    assert words(verify(host, codes[0])) == ("accepted", "recovery-code")
    assert words(verify(host, codes[0])) == ("refused", "wrong-recovery-code")


@pytest.mark.parametrize("code", ["", "12345", "1234567", "x", "\x00" * 64, "١٢٣٤٥٦"])
def test_what_is_no_code_is_refused_and_no_guess(code: str, host: Host) -> None:
    host.enroll()
    assert verify(host, code).outcome == "refused"
    assert host.account().ledger.row == 0


def test_rules_and_exemptions_hold_for_the_service(host: Host) -> None:
    host.enroll()
    host.configure('[[rule]]\nservices = ["vpn"]\nmfa = "skip"\n')
    assert words(start(host)) == ("skipped", "rule")
    assert start(host, Client("other", ["wifi"], may_know=True)).outcome == "ask"
    host.configure("")
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 60, "lost"]))
    assert words(start(host)) == ("skipped", "exempt")
    assert words(verify(host, "anything")) == ("skipped", "exempt")


def test_who_is_let_in_by_a_start_is_logged(host: Host, journal: Journal) -> None:
    assert words(start(host)) == ("skipped", "not-enrolled")
    assert "service=vpn" in journal[-1][1]
    assert "outcome=skipped reason=not-enrolled" in journal[-1][1]


@pytest.mark.parametrize("policy", ["enroll", "invite", "deny"])
def test_nobody_enrols_through_this_door(policy: str, host: Host) -> None:
    host.configure(f'unenrolled = "{policy}"\n')
    for state in (None, PENDING):
        if state:
            host.enroll(state=state)
        answer = start(host)
        assert answer.outcome == "refused"
        assert "administrator" in answer.message
        assert verify(host, "123456").outcome == "refused"
    assert host.account().state == PENDING


def test_codes_that_were_not_shown_yet_are_not_shown_here(host: Host, quick_hash: None) -> None:
    secret = host.enroll()
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        recovery.issue(account.ledger, accounts.sealer)
        assert account.ledger.recovery is not None
        account.ledger.recovery["shown"] = False
        accounts.save(account)
    assert words(verify(host, host.code(secret))) == ("accepted", "code")
    kept = host.account().ledger.recovery
    assert kept is not None
    assert kept["shown"] is False


def test_who_would_not_be_asked_is_refused_where_the_client_may_not_know(host: Host, journal: Journal) -> None:
    assert words(verify(host, "123456", PORTAL)) == ("refused", "code-required")
    assert 'reason=code-required detail="not-enrolled, which the client portal may not know' in journal[-1][1]
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 60, "lost"]))
    assert words(verify(host, "123456", PORTAL)) == ("refused", "code-required")


def test_a_name_that_is_nobodys_is_refused(host: Host, passwd: Passwd) -> None:
    for name in ("mallory", "", "x" * 5000, "a/b", "a:b", "a\nb", "\udcff", "Alice"):
        assert words(verify(host, "123456", user=name)) == ("unknown-user", "unknown-user")
        assert words(start(host, user=name)) == ("unknown-user", "unknown-user")
    # As NSS spells it
    secret = host.enroll()
    passwd.add("ALICE", ALICE.uid, "alice")
    assert verify(host, host.code(secret), user="ALICE").lets_in


def test_a_person_without_an_account_is_known_by_the_record_alone(host: Host) -> None:
    secret = host.enroll(without_account("carol"))
    assert words(verify(host, host.code(secret), user="carol")) == ("unknown-user", "unknown-user")  # by NSS
    assert words(verify(host, host.code(secret), RECORDS, "carol")) == ("accepted", "code")
    assert words(verify(host, host.code(secret), RECORDS, "carol")) == ("refused", "spent-code")


def test_by_records_a_user_of_the_host_has_the_record_of_the_other_doors(host: Host) -> None:
    secret = host.enroll()
    assert verify(host, host.code(secret), RECORDS).lets_in
    assert host.login("alice", host.code(secret)).reason == "spent-code"


@pytest.mark.parametrize("name", ["Alice", "alice@example.org", "alice ", "mallory"])
def test_by_records_another_spelling_is_nobody_even_where_nobody_need_enrol(name: str, host: Host) -> None:
    host.enroll()
    assert words(start(host, RECORDS, name)) == ("unknown-user", "unknown-user")
    assert words(verify(host, "123456", RECORDS, name)) == ("unknown-user", "unknown-user")


def test_the_groups_of_a_person_without_an_account_are_unknown_and_skip_nobody(host: Host) -> None:
    host.enroll(without_account("carol"))
    host.configure('[[rule]]\ngroups = ["robots"]\nmfa = "skip"\n')
    assert start(host, RECORDS, "carol").outcome == "ask"


def test_an_account_that_takes_the_name_of_such_a_person_is_refused_at_logins(host: Host, passwd: Passwd) -> None:
    host.enroll(without_account("carol"))
    passwd.add("carol", 1003)
    assert host.login("carol").reason == "uid-changed"
    assert User("carol", 1003).outside is False
    assert without_account("carol").outside is True


def test_what_is_broken_lets_nobody_in(host: Host) -> None:
    secret = host.enroll()
    host.configure("nonsense = 1\n")
    assert words(start(host)) == words(verify(host, host.code(secret))) == ("misconfigured", "bad-config")
    host.configure("")
    with open(host.paths.cache, "r+b") as file:
        file.write(b"x" * 100)
    for client in (VPN, PORTAL, RECORDS):
        assert words(verify(host, host.code(secret), client)) == ("unavailable", "cache-unusable")
