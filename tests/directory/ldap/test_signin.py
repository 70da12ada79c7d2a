"""Signing in with a password that an LDAP server knows: a real slapd, its faults, and what a hostile one can do."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.directory import config, ldap, people
from pam_totp.directory.models import Person
from pam_totp.directory.portal import passwords
from pam_totp.errors import UsageError
from pam_totp.host import clock
from tests.directory.inside.portal import PASSWORD as LOCAL
from tests.directory.inside.portal import Somebody, enrol
from tests.directory.ldap.server import DISABLED, NAME, PASSWORD, PEOPLE, SUFFIX, Slapd, Someone, dn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.directory.inside.conftest import Keeper

HERE = "192.0.2.1"
ALICE, BOB = Someone("alice"), Someone("bob", more="userAccountControl: 514\n")
WRONG = (None, passwords.WRONG)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that is told at once; the tests of time have their own."""
    monkeypatch.setattr(passwords, "EVERY", 0.001)


@pytest.fixture
def told(slapd: Slapd, settings: Any) -> config.Ldap:
    """The directory asks slapd, which has alice and bob."""
    slapd.have([ALICE, BOB])
    return use(settings, slapd.settings())


def use(settings: Any, server: config.Ldap, **more: Any) -> config.Ldap:
    made = config.of({"name": "dir.example.org", "passwords": "local", **more})
    settings.CONFIG = replace(made, passwords="ldap", ldap=server)
    return server


def person(keeper: Keeper, name: str = "alice", *, enrolled: bool = True, **fields: Any) -> Somebody:
    """Somebody whose password is not here."""
    made = Somebody(Person.objects.create_user(name, **fields), keeper)
    if enrolled:
        enrol(made)
    return made


# Who gets in


@pytest.mark.parametrize("tls", [True, False], ids=["ldaps", "starttls"])
def test_a_password_of_ldap_and_a_code_sign_in_and_neither_does_alone(
    keeper: Keeper, slapd: Slapd, settings: Any, tls: bool
) -> None:
    slapd.have([ALICE])
    use(settings, slapd.settings(tls=tls))
    alice = person(keeper)
    assert alice.password("wrong").status_code == 200
    assert alice.password(PASSWORD).headers["Location"] == "/login/code/"
    assert alice.get("/").headers["Location"] == "/login/"
    assert alice.post("/login/code/", {"code": alice.code()}).headers["Location"] == "/"
    assert alice.get("/").status_code == 200


def test_a_dn_can_be_made_of_the_name_and_no_search_is_needed(slapd: Slapd, keeper: Keeper, settings: Any) -> None:
    slapd.have([ALICE])
    server = slapd.settings(dn=f"uid={{name}},{PEOPLE}")
    use(settings, replace(server, bind_dn="", bind_password=""))
    alice = person(keeper)
    assert passwords.check("alice", PASSWORD, HERE) == (alice.person, "")
    assert passwords.check("alice", "wrong", HERE) == WRONG


def test_who_is_in_ldap_and_not_in_the_directory_does_not_get_in_and_is_not_made(told: config.Ldap) -> None:
    assert ldap.right(told, "alice", PASSWORD)
    assert passwords.check("alice", PASSWORD, HERE) == WRONG
    assert not Person.objects.exists()


def test_who_is_in_the_directory_and_not_in_ldap_does_not_get_in(told: config.Ldap, keeper: Keeper) -> None:
    person(keeper, "carol")
    assert passwords.check("carol", PASSWORD, HERE) == WRONG


def test_ldap_gives_no_role_and_the_admin_portal_stays_closed(told: config.Ldap, keeper: Keeper) -> None:
    alice = person(keeper)
    alice.password(PASSWORD)
    alice.post("/login/code/", {"code": alice.code()})
    assert alice.get("/admin/").status_code == 404
    assert Person.objects.get().role == "user"


def test_who_is_disabled_in_ldap_does_not_get_in_even_before_a_synchronisation(
    slapd: Slapd, keeper: Keeper, settings: Any
) -> None:
    slapd.have([ALICE, BOB])
    use(settings, slapd.settings(disabled=DISABLED))
    alice = person(keeper)
    person(keeper, "bob")
    assert passwords.check("alice", PASSWORD, HERE) == (alice.person, "")
    assert passwords.check("bob", PASSWORD, HERE) == WRONG


def test_an_empty_password_is_refused_before_anybody_is_asked(slapd: Slapd) -> None:
    slapd.stop()
    # No error: the server, which would take such a bind for an anonymous one, is not asked.
    assert not ldap.right(slapd.settings(), "alice", "")
    assert not ldap.right(slapd.settings(), "alice", "\0")


INJECTED = [
    "*",
    "alice)(uid=*",
    "alice)(|(uid=*",
    "*)(objectClass=*",
    "ali*",
    "alice\\2a",
    "alice,ou=x",
    "\\2a",
    "a=b+c=d",
]


@pytest.mark.parametrize("name", INJECTED)
@pytest.mark.parametrize("template", ["", f"uid={{name}},{PEOPLE}"], ids=["search", "template"])
def test_a_name_is_text_in_a_filter_and_in_a_dn(told: config.Ldap, name: str, template: str) -> None:
    assert not ldap.right(replace(told, dn=template), name, PASSWORD)


def test_a_name_that_two_entries_have_is_nobodys(slapd: Slapd, told: config.Ldap) -> None:
    slapd.have([ALICE, Someone("mallory", more="uid: alice\n", password="mallory's")])
    assert not ldap.right(told, "alice", "mallory's")
    assert not ldap.right(told, "alice", PASSWORD)


# Administrators with a password here


def test_an_administrator_with_a_password_here_gets_in_while_ldap_is_down(
    slapd: Slapd, told: config.Ldap, keeper: Keeper
) -> None:
    slapd.stop()
    root = person(keeper, "admin", role="administrator")
    root.person.set_password(LOCAL)
    root.person.save()
    assert root.password(LOCAL).headers["Location"] == "/login/code/"
    assert root.post("/login/code/", {"code": root.code()}).headers["Location"] == "/"
    assert root.get("/admin/").status_code == 200
    slapd.start()


def test_an_administrator_with_a_password_here_has_that_one_alone(told: config.Ldap, keeper: Keeper) -> None:
    alice = person(keeper, role="administrator")
    assert passwords.check("alice", PASSWORD, HERE) == (alice.person, "")
    alice.person.set_password(LOCAL)
    alice.person.save()
    assert passwords.check("alice", PASSWORD, HERE) == WRONG
    assert passwords.check("alice", LOCAL, HERE) == (alice.person, "")


@pytest.mark.parametrize("role", ["user", "auditor", "helpdesk"])
def test_a_password_here_from_before_is_nobody_elses_way_in(told: config.Ldap, keeper: Keeper, role: str) -> None:
    alice = person(keeper, role=role)
    alice.person.set_password(LOCAL)
    alice.person.save()
    assert passwords.check("alice", LOCAL, HERE) == WRONG
    assert passwords.check("alice", PASSWORD, HERE) == (alice.person, "")


def test_choosing_a_password_and_invitations_are_offered_only_where_they_are_needed(
    told: config.Ldap, keeper: Keeper, settings: Any
) -> None:
    alice, root = person(keeper), person(keeper, "admin", role="administrator", enrolled=False)
    assert "invitation" not in alice.get("/login/").content.decode()
    alice.password(PASSWORD)
    alice.post("/login/code/", {"code": alice.code()})
    page = alice.get("/").content.decode()
    assert "/password/" not in page
    assert "no password" not in page
    assert alice.get("/password/").status_code == 404
    assert alice.post("/password/", {"password": LOCAL, "again": LOCAL}).status_code == 404
    with pytest.raises(UsageError, match=r"enrols at https://dir\.example\.org with the password"):
        people.invite("root", alice.person)
    # Who has a role never enrols with a password alone, and an administrator may have one here.
    link = people.invite("root", root.person)
    root.post(f"/invitation/{link}/")
    root.scan("/enrol/")
    assert root.finish("/enrol/").status_code == 200
    assert "/password/" in root.get("/").content.decode()
    assert root.get("/password/").status_code == 200
    use(settings, told, self_enroll=False)
    assert people.invite("root", alice.person)


# Faults: each refuses, with a line in the log and without another answer


def refused(caplog: pytest.LogCaptureFixture) -> str:
    """What the log says of a password that could not be checked."""
    with caplog.at_level(logging.INFO):
        assert passwords.check("alice", PASSWORD, HERE) == WRONG
    [line] = [each.getMessage() for each in caplog.records if each.name == passwords.__name__]
    assert PASSWORD not in caplog.text
    assert "alice" not in caplog.text
    return line


def test_a_server_that_is_down_lets_nobody_in(
    slapd: Slapd, told: config.Ldap, keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    person(keeper)
    slapd.stop()
    assert "Can't contact LDAP server" in refused(caplog)
    slapd.start()


@pytest.mark.parametrize("tls", [True, False], ids=["ldaps", "starttls"])
def test_a_server_that_hangs_lets_nobody_in_and_is_not_waited_for_long(
    slapd: Slapd, keeper: Keeper, settings: Any, caplog: pytest.LogCaptureFixture, tls: bool
) -> None:
    slapd.have([ALICE])
    use(settings, slapd.settings(tls=tls))
    person(keeper)
    slapd.hang()
    began = time.monotonic()
    assert NAME in refused(caplog)
    assert time.monotonic() - began < 3 * ldap.TIMEOUT
    slapd.stop()


@pytest.mark.parametrize("tls", [True, False], ids=["ldaps", "starttls"])
@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_server_with_a_wrong_certificate_is_told_nothing(
    tmp_path: Path, slapd: Slapd, keeper: Keeper, settings: Any, caplog: pytest.LogCaptureFixture, tls: bool, wrong: str
) -> None:
    other = Slapd(tmp_path, certified=NAME if wrong == "authority" else "ldap.example.net")
    other.have([ALICE])
    server = other.settings(tls=tls)
    if wrong == "authority":
        server = replace(server, ca=f"{slapd.place}/ca.crt")
    use(settings, server)
    person(keeper)
    try:
        assert NAME in refused(caplog)
    finally:
        other.stop()


def test_the_machines_own_ldap_conf_has_no_say_in_whom_to_trust(
    tmp_path: Path, slapd: Slapd, keeper: Keeper, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Slapd(tmp_path)
    other.have([ALICE])
    monkeypatch.setenv("LDAPTLS_REQCERT", "never")
    monkeypatch.setenv("LDAPTLS_CACERT", f"{tmp_path}/ca.crt")
    try:
        with pytest.raises(ldap.LdapError):
            ldap.right(replace(other.settings(), ca=f"{slapd.place}/ca.crt"), "alice", PASSWORD)
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bind_password": "wrong"}, "Invalid credentials"),
        ({"people": f"ou=nowhere,{SUFFIX}"}, "No such object"),
        ({"people_filter": "((uid=*)"}, "Bad search filter"),
        ({"ca": "/nowhere"}, "directory.toml"),
        ({"url": "ldaps://ldap.invalid"}, "Can't contact LDAP server"),
    ],
    ids=["searcher", "base", "filter", "ca", "host"],
)
def test_settings_that_are_wrong_let_nobody_in_and_the_log_says_what(
    told: config.Ldap,
    keeper: Keeper,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, str],
    said: str,
) -> None:
    person(keeper)
    use(settings, replace(told, **change))
    assert said in refused(caplog)


def test_a_referral_leads_nobody_anywhere(
    slapd: Slapd, keeper: Keeper, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Slapd(tmp_path)
    other.have([ALICE])
    elsewhere = f"""
dn: ou=away,{SUFFIX}
objectClass: referral
objectClass: extensibleObject
ou: away
ref: ldap://{NAME}:{other.port}/{PEOPLE}
"""
    slapd.have([], elsewhere)
    person(keeper)
    try:
        use(settings, slapd.settings(people=f"ou=away,{SUFFIX}"))
        assert "Referral" in refused(caplog)
        caplog.clear()
        # One among the answers is no answer.
        use(settings, slapd.settings(people=SUFFIX))
        assert passwords.check("alice", PASSWORD, HERE) == WRONG
        use(settings, slapd.settings(dn=f"uid={{name}},ou=away,{SUFFIX}"))
        assert passwords.check("alice", PASSWORD, HERE) == WRONG
    finally:
        other.stop()


# Nobody learns a name


def asked(slapd: Slapd, monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> list[str]:
    """What is asked of the server for one try."""
    seen: list[str] = []
    real_search, real_connected = ldap._Server.some, ldap._connected

    def search(self: Any, base: str, which: str) -> list[str]:
        seen.append("search")
        return real_search(self, base, which)

    def connected(server: config.Ldap, who: str, secret: str) -> Any:
        seen.append("searcher" if who == server.bind_dn else "bind")
        return real_connected(server, who, secret)

    with monkeypatch.context() as patched:
        patched.setattr(ldap._Server, "some", search)
        patched.setattr(ldap, "_connected", connected)
        passwords.check(name, password, HERE)
    return seen


def test_whatever_the_name_is_the_server_is_asked_the_same(
    slapd: Slapd, told: config.Ldap, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    person(keeper)
    person(keeper, "carol")
    root = person(keeper, "admin", role="administrator")
    root.person.set_password(LOCAL)
    root.person.save()
    expected = ["searcher", "search", "bind"]
    for name in ("alice", "bob", "carol", "admin", "nobody", "*"):
        assert asked(slapd, monkeypatch, name, "wrong") == expected, name


def test_no_account_of_ldap_that_the_directory_does_not_know_is_tried(
    slapd: Slapd, told: config.Ldap, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    real = ldap._connected

    def connected(server: config.Ldap, who: str, secret: str) -> Any:
        tried.append(who)
        return real(server, who, secret)

    monkeypatch.setattr(ldap, "_connected", connected)
    assert passwords.check("bob", "wrong", HERE) == WRONG
    assert dn("bob") not in tried


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_each_refusal_takes_as_long_as_any_other(
    slapd: Slapd, told: config.Ldap, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, down: bool
) -> None:
    monkeypatch.setattr(passwords, "EVERY", 3.0)
    person(keeper)
    if down:
        slapd.stop()
    paused: list[float] = []
    monkeypatch.setattr(clock, "pause", paused.append)
    for name in ("alice", "nobody"):
        began = time.monotonic()
        assert passwords.check(name, "wrong", HERE) == WRONG
        took = time.monotonic() - began
        # It is told at the end of three seconds, or of the next three where the machine is slow.
        assert (took + paused[-1]) % 3.0 == pytest.approx(0, abs=0.3) or (took + paused[-1]) % 3.0 > 2.7
    if down:
        slapd.start()


def test_a_flood_of_tries_is_refused_unasked_and_leaves_threads_for_everybody_else(
    slapd: Slapd, told: config.Ldap, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = person(keeper)
    for _ in range(passwords.MOST_AT_ONCE):
        passwords._room.acquire()
    assert passwords.check("alice", PASSWORD, HERE) == (None, passwords.BUSY)
    assert asked(slapd, monkeypatch, "alice", PASSWORD) == []
    for _ in range(passwords.MOST_AT_ONCE):
        passwords._room.release()
    assert passwords.check("alice", PASSWORD, HERE) == (alice.person, "")


def test_wrong_passwords_are_throttled_by_the_same_ledger_and_then_ldap_is_not_asked(
    told: config.Ldap, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, slapd: Slapd
) -> None:
    person(keeper)
    answers = [passwords.check("alice", "wrong", HERE)[1] for _ in range(5)]
    assert answers[-1].startswith("Too many tries")
    assert asked(slapd, monkeypatch, "alice", PASSWORD) == []
