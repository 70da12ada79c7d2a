"""Rules over real logins, and that `pam-totp explain` has said before what then happens."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from tests.enrolment.dialogue import CODE, INVITATION, started
from tests.lab.pam import alone, pamtester
from tests.login.host import kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Completed
    from tests.login.host import Host, Person

pytestmark = pytest.mark.usefixtures("key_and_code")

CONFIG = "/etc/pam-totp/config.toml"
SKIP = 'mfa = "skip"'
HERE, THERE = "127.0.0.1", "127.0.7.1"


@pytest.fixture(autouse=True)
def none(host: Host) -> Iterator[None]:
    """No configuration before and after each test."""
    yield
    host.machine.sh('rm -f "$1" && pam-totp config reset --yes', CONFIG)


def configure(host: Host, *tables: str, general: str = "") -> None:
    host.machine.write(CONFIG, "\n".join([general, *(f"[[rule]]\n{table}" for table in tables)]))


def met(person: Person, *, source: str = HERE, key: str = "") -> str:
    """What a login meets, in the words of explain's JSON; nothing is answered."""
    machine = person.host.machine
    with machine.ssh(person.user, "-o", "NumberOfPasswordPrompts=1", key=key or True, source=source) as session:
        questions = {"Verification code: ": "ask", CODE: "enroll", INVITATION: "invite"}
        which = int(session._child.expect([*questions, pexpect.EOF]))
        if which < len(questions):
            return list(questions.values())[which]
        return "refuse" if session.wait() else "skip"


def explain(person: Person, *options: str) -> Any:
    """What `pam-totp explain --json` says."""
    return json.loads(person.host.machine.run(["pam-totp", "explain", person.name, "--json", *options]).stdout)


def happens(person: Person, *, source: str = HERE, key: str = "") -> tuple[str, int | None]:
    """What a login meets and which rule decides it: foretold by explain, seen at the login, and in the log."""
    file = f"/root/.ssh/{key or person}"
    certified = person.host.machine.run(["test", "-e", f"{file}-cert.pub"], check=False).returncode == 0
    told = explain(person, "--rhost", source, "--key", f"{file}-cert.pub" if certified else f"{file}.pub")
    mark = person.host.machine.mark()
    action = met(person, source=source, key=key)
    assert action == told["action"]
    lines = person.host.decisions(mark)
    if action in ("skip", "refuse"):
        assert [line["reason"] for line in lines] == [told["reason"]]
    return action, told["rule"]


def test_users_are_named(host: Host) -> None:
    alice, bob = host.person(), host.person()
    configure(host, f'users = ["{alice}", "nobody"]\n{SKIP}')
    assert happens(alice) == ("skip", 1)
    assert happens(bob) == ("ask", None)


def test_groups_are_those_of_the_name_service_whatever_it_is(host: Host) -> None:
    local, directory, none = host.person(), host.person(), host.person()
    host.machine.sh(
        """
        groupadd local-group && usermod -aG local-group "$1"
        sed -i 's/^group:.*/group: files extrausers/' /etc/nsswitch.conf
        printf 'directory-group:x:5000:%s\\n' "$2" >/var/lib/extrausers/group
        """,
        local.name,
        directory.name,
    )
    configure(host, f'groups = ["directory-group"]\n{SKIP}', f'groups = ["local-group", "other"]\n{SKIP}')
    assert happens(directory) == ("skip", 1)
    assert happens(local) == ("skip", 2)
    assert happens(none) == ("ask", None)
    configure(host, f'groups = ["{none}"]\n{SKIP}')  # the primary group
    assert happens(none) == ("skip", 1)


def test_a_service_is_named(host: Host) -> None:
    alice = host.person()
    configure(host, f'services = ["vpn"]\n{SKIP}', f'services = ["sshd", "sftp"]\n{SKIP}')
    assert happens(alice) == ("skip", 2)
    assert explain(alice, "--service", "vpn")["rule"] == 1
    assert explain(alice, "--service", "cron")["rule"] is None


def test_networks_of_both_families_are_named(host: Host) -> None:
    alice = host.person()
    configure(host, f'networks = ["127.0.7.0/24", "fd00:7::/32"]\n{SKIP}')
    assert happens(alice, source="127.0.7.9") == ("skip", 1)
    assert happens(alice) == ("ask", None)
    assert happens(alice, source="fd00:7::9") == ("skip", 1)
    assert happens(alice, source="fd00:8::9") == ("ask", None)


@pytest.fixture
def names(host: Host) -> Iterator[None]:
    """An sshd that reports its clients' host names in place of their addresses."""
    host.machine.sshd.drop_in("10-names", "UseDNS yes\n")
    host.machine.sshd.reload()
    yield
    host.machine.sshd.remove("10-names")
    host.machine.sshd.reload()


NAMED = "networks cannot be told: sshd reported a name"


@pytest.mark.usefixtures("names")
def test_where_sshd_reports_a_name_a_rule_for_networks_skips_nobody(host: Host) -> None:
    alice = host.person()
    configure(host, f'networks = ["0.0.0.0/0", "::/0"]\n{SKIP}')
    mark = host.machine.mark()
    assert met(alice) == "ask"
    told = explain(alice, "--rhost", "localhost")
    assert (told["action"], told["rule"], told["rules"][0]["conditions"]) == ("ask", None, {"networks": None})
    assert not [line for line in host.decisions(mark) if line["outcome"] == "skipped"]
    assert kinds(alice.log_in(alice.code())) == ["Verification code:"]
    assert f"rule 1: {NAMED}" in host.decisions(mark)[-1]["detail"]


@pytest.mark.usefixtures("names")
def test_where_sshd_reports_a_name_a_rule_for_networks_that_may_require_a_code_does(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    configure(host, 'networks = ["192.0.2.0/24"]\nunenrolled = "deny"', SKIP)
    assert met(alice) == "ask"
    mark = host.machine.mark()
    assert met(bob) == "refuse"
    [line] = [each for each in host.decisions(mark) if each.get("user") == bob.name]
    assert (line["rhost"], line["reason"]) == ("localhost", "not-enrolled")
    assert f"rule 1: {NAMED}" in line["detail"]
    for person in (alice, bob):
        told = explain(person, "--rhost", "localhost")
        assert (told["action"], told["rule"]) == ("ask" if person is alice else "refuse", 1)
    host.machine.run(["pam-totp", "exempt", alice.name, "--until", "2099-12-31", "--reason", "no phone"])
    assert met(alice) == "skip"


def test_an_address_that_no_rule_names_still_skips(host: Host) -> None:
    alice = host.person()
    configure(host, 'networks = ["192.0.2.0/24"]', SKIP)
    assert happens(alice) == ("skip", 2)


def certify(person: Person, key: str, authority: str) -> None:
    """Have a key of the user's certified, which is made where there is none yet."""
    script = """
        for name in "/root/$3" "/root/.ssh/$2"; do test -e "$name" || ssh-keygen -q -t ed25519 -N '' -f "$name"; done
        ssh-keygen -q -s "/root/$3" -I laptop -n "$1" "/root/.ssh/$2.pub"
    """
    person.host.machine.sh(script, person.name, key, authority)


def fingerprint(host: Host, path: str) -> str:
    return host.machine.run(["ssh-keygen", "-l", "-f", path]).stdout.split()[1]


@pytest.fixture
def authority(host: Host) -> Iterator[str]:
    """The fingerprint of a certification authority, /root/ca, that the administrator has sshd trust."""
    host.machine.sh(
        "test -e /root/ca || ssh-keygen -q -t ed25519 -N '' -f /root/ca; cp /root/ca.pub /etc/ssh/authorities"
    )
    host.machine.sshd.drop_in("10-authorities", "TrustedUserCAKeys /etc/ssh/authorities\n")
    host.machine.sshd.reload()
    yield fingerprint(host, "/root/ca.pub")
    host.machine.sshd.remove("10-authorities")
    host.machine.sshd.reload()


def test_keys_are_named_by_fingerprint_or_by_their_ca_or_all(host: Host, authority: str) -> None:
    alice, bob = host.person(), host.person()
    certify(alice, f"{alice}-certified", "ca")
    own = fingerprint(host, f"/root/.ssh/{alice}.pub")
    configure(host, f'keys = ["{own}"]\n{SKIP}', f'keys = ["ca:{authority}"]\n{SKIP}')
    assert happens(alice) == ("skip", 1)
    assert happens(alice, key=f"{alice}-certified") == ("skip", 2)
    configure(host, f'keys = ["{own}", "ca:{authority}"]\n{SKIP}', f'keys = ["any"]\n{SKIP}')
    assert happens(bob) == ("skip", 2)
    assert explain(bob)["action"] == "ask"


def test_a_login_by_password_is_known_to_be_one_without_a_key(host: Host) -> None:
    bob = host.person(enrolled=False)
    configure(host, 'keys = ["any"]\nunenrolled = "deny"', f'users = ["{bob}"]\n{SKIP}')
    host.use("password-and-code")
    try:
        mark = host.machine.mark()
        assert bob.log_in().ok
        [line] = host.decisions(mark)
        assert (line["outcome"], line["reason"], line["detail"]) == ("skipped", "rule", "rule 2")
    finally:
        host.use("key-and-code")


def malware(person: Person) -> str:
    """What a program that ran in one session of the user's leaves there: a CA of its own, and a key certified by it."""
    key = f"{person}-malware"
    certify(person, key, f"{person}-own-ca")
    script = 'echo "cert-authority $(cat "/root/$1-own-ca.pub")" >>"/home/$1/.ssh/authorized_keys"'
    person.host.machine.sh(script, person.name)
    return key


def test_a_ca_that_malware_has_put_into_authorized_keys_exempts_nobody(host: Host, authority: str) -> None:
    alice = host.person()
    certify(alice, f"{alice}-certified", "ca")
    key = malware(alice)
    configure(host, f'keys = ["certificate"]\n{SKIP}')
    mark = host.machine.mark()
    assert met(alice, key=key) == "refuse"
    [line] = host.decisions(mark)
    assert (line["outcome"], line["reason"]) == ("misconfigured", "bad-config")
    done = checked(host)
    assert done.returncode == 3
    for text in (line["detail"].replace("\\x22", '"'), done.stderr):
        assert 'name the CA: keys = ["ca:SHA256:..."]' in text
    configure(host, f'keys = ["ca:{authority}"]\n{SKIP}')
    assert happens(alice, key=f"{alice}-certified") == ("skip", 1)
    assert happens(alice, key=key) == ("ask", None)
    configure(host, 'keys = ["certificate"]', SKIP)
    assert happens(alice, key=key) == ("ask", 1)
    assert happens(alice) == ("skip", 2)


def test_a_certificate_for_somebody_else_exempts_nobody(host: Host, authority: str) -> None:
    alice, mallory = host.person(), host.person()
    for person in (alice, mallory):
        certify(person, f"{person}-certified", "ca")
    # What a program that ran in one session of alice's leaves there: the right CA, for another name than hers.
    script = 'echo "cert-authority,principals=\\"$2\\" $(cat /root/ca.pub)" >>"/home/$1/.ssh/authorized_keys"'
    host.machine.sh(script, alice.name, mallory.name)
    configure(host, f'keys = ["ca:{authority}"]\n{SKIP}')
    assert met(alice, key=f"{mallory}-certified") == "ask"
    mark = host.machine.mark()
    assert alice.log_in(alice.code(), key=f"{mallory}-certified").ok
    assert "rule 1: keys cannot be told: the certificate is not for this name" in host.decisions(mark)[-1]["detail"]
    assert happens(alice, key=f"{alice}-certified") == ("skip", 1)
    configure(host, f'keys = ["ca:{authority}"]', SKIP)
    assert met(alice, key=f"{mallory}-certified") == "ask"


def test_a_rule_that_names_a_key_takes_its_certificates_as_well(host: Host, authority: str) -> None:
    del authority
    alice = host.person()
    certify(alice, f"{alice}-certified", "ca")
    key = fingerprint(host, f"/root/.ssh/{alice}-certified-cert.pub")
    assert key == fingerprint(host, f"/root/.ssh/{alice}-certified.pub")
    configure(host, f'keys = ["{key}"]', SKIP)
    assert happens(alice, key=f"{alice}-certified") == ("ask", 1)
    assert happens(alice) == ("skip", 2)


def test_who_has_just_enrolled_is_told_from_others(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    configure(host, f'enrolled_within = "1h"\n{SKIP}', general='unenrolled = "deny"')
    assert happens(alice) == ("skip", 1)
    assert happens(bob) == ("refuse", None)


def test_who_enrols_again_has_not_just_enrolled(host: Host) -> None:
    alice = host.person()
    configure(host, f'enrolled_within = "1m"\n{SKIP}')
    assert happens(alice) == ("skip", 1)
    time.sleep(61)
    assert happens(alice) == ("ask", None)
    alice = host.enroll(alice)  # in the place of the first
    host.enroll(alice, label="another")
    assert happens(alice) == ("ask", None)
    host.machine.run(["pam-totp", "reset", alice.name, "--label", "phone", "--yes"])
    assert happens(alice) == ("ask", None)
    host.machine.run(["pam-totp", "reset", alice.name, "--yes"])
    host.enroll(alice)
    assert happens(alice) == ("skip", 1)


def test_the_first_rule_that_matches_decides(host: Host) -> None:
    alice, bob = host.person(), host.person()
    configure(host, f'users = ["{alice}"]\nnetworks = ["{THERE}"]', f'networks = ["127.0.0.0/8"]\n{SKIP}')
    assert happens(alice, source=THERE) == ("ask", 1)
    assert happens(alice) == ("skip", 2)
    assert happens(bob, source=THERE) == ("skip", 2)


@pytest.mark.parametrize(
    ("word", "action"),
    [("skip", "skip"), ("enroll", "enroll"), ("invite", "refuse"), ("deny", "refuse"), ("deadline", "skip")],
)
def test_a_rule_says_what_becomes_of_who_is_not_enrolled(host: Host, word: str, action: str) -> None:
    bob = host.person(enrolled=False)
    configure(host, f'users = ["{bob}"]\nunenrolled = "{word}"', general='unenrolled = "deny"')
    assert happens(bob) == (action, 1)
    if word == "invite":
        host.confidential.add(host.machine.run(["pam-totp", "invite", bob.name]).stdout.strip())
        assert happens(bob) == ("invite", 1)


def wrong_codes(person: Person) -> None:
    """Three wrong codes of a login with the user's key."""
    machine = person.host.machine
    kind, key, *_ = machine.read(f"/root/.ssh/{person}.pub").split()
    passed = {"SSH_AUTH_INFO_0": f"publickey {kind} {key}\n"}
    for _ in range(3):
        pamtester(machine, alone(machine), person.user, answers=[person.wrong()], env=passed, rhost=HERE)


def test_explain_agrees_about_waits_exemptions_and_what_is_remembered(host: Host) -> None:
    alice, bob = host.person(), host.person()
    configure(host, general='remember = "1h"')
    assert alice.log_in(alice.code()).ok
    assert happens(alice) == ("skip", None)
    assert explain(alice, "--rhost", HERE)["reason"] == "enrolled"
    wrong_codes(bob)
    assert happens(bob) == ("refuse", None)
    host.machine.run(["pam-totp", "exempt", bob.name, "--until", "2099-12-31", "--reason", "no phone"])
    assert happens(bob) == ("skip", None)
    assert explain(bob)["fact"] == "exempt until 2099-12-31 23:59 UTC: no phone"


def test_explain_says_it_to_people_as_well_and_changes_nothing(host: Host) -> None:
    alice = host.person()
    configure(
        host, f'users = ["{alice}"]\nnetworks = ["192.0.2.0/24"]\n{SKIP}', 'groups = ["sudo"]\nunenrolled = "deny"'
    )
    before = host.machine.run(["sha256sum", "/var/lib/pam-totp/cache.db"]).stdout
    said = host.machine.run(["pam-totp", "explain", alice.name, "--rhost", "192.0.2.7"]).stdout
    assert said == (
        f"{alice} is not asked for a code (rule)\n"
        "  rule: number 1\n"
        "  fact: state active, authenticators: phone\n"
        "  rule 1: users match; networks match\n"
        "  rule 2: groups do not match\n"
    )
    assert host.machine.run(["sha256sum", "/var/lib/pam-totp/cache.db"]).stdout == before


def checked(host: Host) -> Completed:
    return host.machine.run(["pam-totp", "config", "check"], check=False)


def test_overlaps_and_rules_that_are_never_reached_are_reported(host: Host) -> None:
    configure(host, 'users = ["root"]', 'groups = ["b"]\nunenrolled = "deny"', 'users = ["root"]\nservices = ["sshd"]')
    done = checked(host)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[:2] == [
        "rules 1 and 2 overlap: where both match, rule 1 decides",
        "rule 3 is never reached: rule 1 takes every login that it could match",
    ]
    configure(host, 'users = ["root"]', 'users = ["daemon"]\nunenrolled = "deny"')
    done = checked(host)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{CONFIG}: good (2 rules)")


def test_a_mistake_is_named_and_nobody_gets_in_until_it_is_mended(host: Host) -> None:
    alice = host.person()
    configure(host, 'user = ["a"]')
    done = checked(host)
    assert done.returncode == 3
    assert "[[rule]] number 1: unknown key 'user'" in done.stderr
    mark = host.machine.mark()
    assert met(alice) == "refuse"
    assert [line["outcome"] for line in host.decisions(mark)] == ["misconfigured"]


def test_a_client_in_batch_mode_never_asks_pam_so_sshd_must_let_it_in(host: Host) -> None:
    backup = host.person(enrolled=False)
    configure(host, f'users = ["{backup}"]\n{SKIP}')
    batch = ["ssh", "-o", "BatchMode=yes", "-i", f"/root/.ssh/{backup}", f"{backup}@127.0.0.1", "echo in"]
    with started(backup) as session:
        assert session.wait() == 0
    assert host.machine.run(batch, check=False).returncode == 255
    match = f"Match User {backup} Address 127.0.0.1\n    AuthenticationMethods publickey\n"
    host.machine.sshd.drop_in("00-backup", match)
    host.machine.sshd.reload()
    try:
        assert host.machine.run(batch).stdout == "in\n"
    finally:
        host.machine.sshd.remove("00-backup")
        host.machine.sshd.reload()
