"""Up to five authenticators, each of them accepted, spent and removed for itself."""

from __future__ import annotations

import pytest

from tests.lab.pam import alone, pamtester
from tests.login.host import Host, Person, kinds

pytestmark = pytest.mark.usefixtures("key_and_code")

LABELS = ("phone", "tablet", "fob", "key", "spare")


def verdict(person: Person, code: str) -> str:
    """What the module returns for a code, without sshd. No test here fails three times in a row."""
    machine = person.host.machine
    return pamtester(machine, alone(machine), person.user, answers=[code]).code


@pytest.fixture
def five(host: Host) -> dict[str, Person]:
    """A user with five authenticators, by label."""
    person = host.person(enrolled=False)
    return {label: host.enroll(person, label=label) for label in LABELS}


def test_any_of_five_is_accepted_and_each_is_spent_for_itself(host: Host, five: dict[str, Person]) -> None:
    for each in reversed(five.values()):
        code = each.code()
        assert verdict(each, code) == "PAM_SUCCESS"
        assert verdict(each, code) == "PAM_AUTH_ERR"
    assert kinds(five["fob"].log_in(five["fob"].code(1))) == ["Verification code:"]
    shown = host.status(five["fob"])["authenticators"]
    assert {each["label"]: each["state"] for each in shown} == dict.fromkeys(LABELS, "active")


def test_a_sixth_is_refused_and_one_of_a_label_that_is_there_replaces_it(host: Host, five: dict[str, Person]) -> None:
    sixth = ["pam-totp", "enroll", five["fob"].name, "--no-confirm", "--json", "--label", "sixth"]
    done = host.machine.run(sixth, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has 5 authenticators, which is the most" in done.stderr
    new = host.enroll(five["fob"], label="fob")
    assert verdict(new, five["fob"].code()) == "PAM_AUTH_ERR"
    assert verdict(new, new.code()) == "PAM_SUCCESS"
    assert verdict(new, five["key"].code()) == "PAM_SUCCESS"


def test_each_can_be_removed_alone(host: Host, five: dict[str, Person]) -> None:
    host.machine.run(["pam-totp", "reset", "--yes", five["fob"].name, "--label", "fob"])
    assert verdict(five["fob"], five["fob"].code()) == "PAM_AUTH_ERR"
    for label in ("phone", "tablet", "key", "spare"):
        assert verdict(five[label], five[label].code()) == "PAM_SUCCESS"
