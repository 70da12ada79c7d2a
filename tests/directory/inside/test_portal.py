"""The user portal: signing in, enrolment, and what one does with one's authenticators."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyotp
import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from pam_totp.directory import config, people
from pam_totp.directory.keeper import client as keeper_client
from pam_totp.directory.models import Audit, Authenticator, Claim, Event, Invitation, Person, RecoveryCodes, hash_of
from pam_totp.directory.portal import logins
from tests.directory.inside.portal import Somebody, enrol, somebody

if TYPE_CHECKING:
    from tests.directory.inside.conftest import Keeper


@pytest.fixture
def alice(keeper: Keeper) -> Somebody:
    return somebody(keeper)


# Signing in


def test_a_session_begins_with_a_right_code_and_not_before(alice: Somebody) -> None:
    assert alice.get("/").headers["Location"] == "/login/"
    assert alice.password().headers["Location"] == "/login/code/"
    assert alice.get("/").headers["Location"] == "/login/"
    assert "_auth_user_id" not in alice.browser.session
    assert alice.post("/login/code/", {"code": alice.code()}).headers["Location"] == "/"
    assert "Authenticators" in alice.get("/").content.decode()


def test_a_code_signs_in_once_and_is_claimed_for_the_fleet(alice: Somebody) -> None:
    code = alice.code()
    alice.password()
    assert alice.post("/login/code/", {"code": code}).status_code == 302
    assert Claim.objects.get().host is None
    again = Somebody(alice.person, alice.keeper)
    again.password()
    assert again.post("/login/code/", {"code": code}).status_code == 200
    assert "_auth_user_id" not in again.browser.session


def test_a_code_that_a_host_has_claimed_is_refused(alice: Somebody) -> None:
    code = alice.code()
    step = int(alice.keeper.time.now().wall) // 30
    Claim.objects.create(authenticator=alice.person.authenticators.get().ident, step=step, login="0" * 32)
    alice.password()
    assert "not accepted" in alice.post("/login/code/", {"code": code}).content.decode()
    assert (Event.objects.get().kind, Event.objects.get().reason) == ("refused", "spent-code")
    assert "_auth_user_id" not in alice.browser.session


def test_a_spent_code_is_one_in_ones_own_log_and_gets_the_answer_of_a_wrong_one(alice: Somebody) -> None:
    alice.sign_in()
    spent = alice.code_now()
    other = Somebody(alice.person, alice.keeper)
    other.password()
    said = []
    for code in (spent, "000000" if spent != "000000" else "111111"):
        page = other.post("/login/code/", {"code": code}).content.decode()
        said.append(re.sub(r'value="[^"]*"', "", page))
    assert said[0] == said[1]
    assert "not accepted" in said[0]
    reasons = Event.objects.filter(kind="refused").order_by("pk").values_list("reason", flat=True)
    assert list(reasons) == ["spent-code", "wrong-code"]
    assert "the code was used already" in alice.get("/logins/").content.decode()


def test_a_recovery_code_signs_in_once(alice: Somebody) -> None:
    alice.sign_in()
    page = alice.post("/recovery/", {"code": alice.code()}).content.decode()
    codes = re.findall(r"<li>([a-z2-9]{5}-[a-z2-9]{5})</li>", page)
    assert len(codes) == 10
    for expected in (302, 200):
        other = Somebody(alice.person, alice.keeper)
        other.password()
        assert other.post("/login/code/", {"code": codes[0]}).status_code == expected
    assert len(RecoveryCodes.objects.get().hashes) == 9


def test_the_session_has_another_identifier_after_each_step(alice: Somebody) -> None:
    planted = alice.browser.session
    planted["planted"] = True
    planted.save()
    alice.browser.cookies["__Host-session"] = str(planted.session_key)
    alice.password()
    halfway = alice.browser.cookies["__Host-session"].value
    alice.post("/login/code/", {"code": alice.code()})
    signed_in = alice.browser.cookies["__Host-session"].value
    assert len({planted.session_key, halfway, signed_in}) == 3
    assert "planted" not in alice.browser.session
    for old in (planted.session_key, halfway):
        thief = Somebody(alice.person, alice.keeper)
        thief.browser.cookies["__Host-session"] = str(old)
        assert thief.get("/").headers["Location"] == "/login/"


def test_halfway_ends_with_its_time_a_changed_password_and_a_deactivated_person(
    alice: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.password()
    monkeypatch.setattr("pam_totp.directory.portal.visit.HALFWAY_FOR", 0)
    assert alice.post("/login/code/", {"code": alice.code()}).headers["Location"] == "/login/"
    monkeypatch.setattr("pam_totp.directory.portal.visit.HALFWAY_FOR", 900)
    alice.password()
    alice.person.set_password("another horse battery staple")
    alice.person.save()
    assert alice.post("/login/code/", {"code": alice.code()}).headers["Location"] == "/login/"
    alice.password("another horse battery staple")
    Person.objects.update(is_active=False)
    assert alice.post("/login/code/", {"code": alice.code()}).headers["Location"] == "/login/"


def test_wrong_codes_are_throttled_by_the_ledger_also_in_many_sessions(alice: Somebody) -> None:
    said = []
    for _ in range(4):
        visitor = Somebody(alice.person, alice.keeper)
        visitor.password()
        said.append(visitor.post("/login/code/", {"code": "000000"}).content.decode())
    assert ["Try again in 30 seconds" in each for each in said] == [False, False, False, True]
    # The right one has to wait as well.
    alice.password()
    alice.keeper.time.ahead -= 30
    assert "Try again in" in alice.post("/login/code/", {"code": alice.code()}).content.decode()


def test_tries_without_an_end_fill_no_table(alice: Somebody) -> None:
    alice.password()
    for _ in range(20):
        alice.post("/login/code/", {"code": "000000"})
    assert Event.objects.count() <= 6
    Session.objects.update(expire_date=timezone.now())
    people.lock("root", alice.person, locked=False)
    alice.sign_in()
    assert Session.objects.count() == 1


def test_who_is_locked_is_not_let_in_by_a_right_code(alice: Somebody) -> None:
    Person.objects.update(locked=True)
    alice.password()
    assert "locked" in alice.post("/login/code/", {"code": alice.code()}).content.decode()
    assert alice.get("/").headers["Location"] == "/login/"


def test_with_the_keeper_down_nobody_is_let_in(alice: Somebody, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper_client.close()
    monkeypatch.setattr(config, "SOCKET", "/nonexistent")
    alice.password()
    assert "cannot be checked" in alice.post("/login/code/", {"code": alice.code()}).content.decode()
    assert alice.get("/").headers["Location"] == "/login/"


def test_a_lock_and_a_reset_end_the_sessions_that_there_are(alice: Somebody) -> None:
    alice.sign_in()
    people.lock("root", alice.person, locked=True)
    assert alice.get("/").headers["Location"] == "/login/"
    people.lock("root", alice.person, locked=False)
    assert alice.get("/").headers["Location"] == "/login/"
    alice.sign_in()
    assert alice.get("/").status_code == 200
    people.remove("root", alice.person)
    enrol(alice)
    assert alice.get("/").headers["Location"] == "/login/"


def test_another_password_ends_the_other_sessions(alice: Somebody) -> None:
    other = Somebody(alice.person, alice.keeper, alice.key)
    other.sign_in()
    alice.sign_in()
    new = "a horse of another colour"
    assert alice.post("/password/", {"password": new, "again": new}).headers["Location"] == "/"
    assert alice.get("/").status_code == 200
    assert other.get("/").headers["Location"] == "/login/"


# Enrolment


@pytest.fixture
def bob(keeper: Keeper) -> Somebody:
    return somebody(keeper, "bob", enrolled=False)


def test_who_has_a_password_and_no_authenticator_enrols(bob: Somebody) -> None:
    assert bob.password().headers["Location"] == "/enrol/"
    bob.scan("/enrol/")
    page = bob.finish("/enrol/").content.decode()
    assert len(re.findall(r"<li>[a-z2-9]{5}-[a-z2-9]{5}</li>", page)) == 10
    assert bob.get("/").status_code == 200
    assert bob.person.enrolled
    assert Somebody(bob.person, bob.keeper, bob.key).sign_in().headers["Location"] == "/"


def test_the_code_that_finishes_an_enrolment_is_spent(bob: Somebody) -> None:
    bob.password()
    bob.scan("/enrol/")
    code = bob.code()
    bob.finish("/enrol/", code)
    again = Somebody(bob.person, bob.keeper)
    again.password()
    assert again.post("/login/code/", {"code": code}).status_code == 200
    claim = Claim.objects.get()
    assert claim.authenticator == Authenticator.objects.get().ident


def test_a_thief_of_the_password_who_looks_at_a_key_has_not_the_key_that_its_owner_keeps(bob: Somebody) -> None:
    thief = Somebody(bob.person, bob.keeper)
    thief.password()
    seen = thief.scan("/enrol/")
    bob.password()
    shown = bob.scan("/enrol/")
    assert shown != seen
    bob.finish("/enrol/")
    # What the thief had open does not open any more.
    assert thief.finish("/enrol/").headers["Location"] == "/login/code/"
    thief.password()
    assert thief.post("/login/code/", {"code": thief.code()}).status_code == 200
    assert Authenticator.objects.count() == 1


def test_each_visit_of_the_page_has_a_key_of_its_own(bob: Somebody) -> None:
    bob.password()
    first = bob.scan("/enrol/")
    second = bob.scan("/enrol/")
    assert first != second
    code = pyotp.TOTP(first).at(int(bob.keeper.time.now().wall))
    assert "not accepted" in bob.finish("/enrol/", code).content.decode()
    assert not bob.person.enrolled


def test_a_mistyped_code_leaves_the_same_key_and_many_bring_another(bob: Somebody) -> None:
    bob.password()
    key = bob.scan("/enrol/")
    page = bob.finish("/enrol/", "12345").content.decode()
    assert f'value="{key}"' in page
    for _ in range(4):
        page = bob.finish("/enrol/", "12345").content.decode()
    assert f'value="{key}"' not in page
    assert "here is a new one" in page


def test_what_the_page_hands_back_as_its_key_decides_nothing(bob: Somebody) -> None:
    bob.password()
    bob.scan("/enrol/")
    chosen = pyotp.random_base32()
    code = pyotp.TOTP(chosen).at(int(bob.keeper.time.now().wall))
    bob.post("/enrol/", {"label": "x", "code": code, "key": chosen})
    assert not bob.person.enrolled


@pytest.mark.parametrize("key", ["", "x" * 5000, "%00", "<b>", "A" * 31, "A" * 32 + "\n", "ä" * 32])
def test_what_is_no_key_brings_a_new_one(bob: Somebody, key: str) -> None:
    bob.password()
    bob.scan("/enrol/")
    answer = bob.post("/enrol/", {"label": "phone", "code": "000000", "key": key})
    assert answer.status_code == 200
    assert "here is a new key" in answer.content.decode()
    assert not bob.person.enrolled


def test_no_key_and_no_code_is_in_the_database_or_the_keepers_log(bob: Somebody) -> None:
    bob.password()
    key = bob.scan("/enrol/")
    code = bob.code()
    session = dict(bob.browser.session)
    bob.finish("/enrol/", code)
    assert key not in str(session)
    assert not any(key in line or code in line for line in bob.keeper.log)
    assert key not in str([*Audit.objects.values(), *Event.objects.values()])


def test_where_an_invitation_is_wanted_a_password_opens_no_enrolment(bob: Somebody, settings: Any) -> None:
    settings.CONFIG = config.of({"name": "dir.example.org", "self_enroll": False})
    bob.password()
    assert bob.get("/enrol/").status_code == 403


def test_a_password_alone_enrols_nobody_with_a_role_and_nobody_who_is_locked(keeper: Keeper, bob: Somebody) -> None:
    kinds: tuple[dict[str, Any], ...] = ({"role": "helpdesk"}, {"role": "administrator"}, {"locked": True})
    for number, fields in enumerate(kinds):
        other = somebody(keeper, f"other{number}", enrolled=False, **fields)
        other.password()
        assert other.get("/enrol/").status_code == 403
    bob.password()
    bob.scan("/enrol/")
    Person.objects.filter(name="bob").update(locked=True)
    assert bob.finish("/enrol/").status_code == 403
    assert not Authenticator.objects.exists()


def test_a_new_authenticator_does_not_take_the_place_of_one_with_its_name(alice: Somebody) -> None:
    alice.sign_in()
    old = Authenticator.objects.get()
    key = alice.scan("/authenticators/add/")
    page = alice.finish("/authenticators/add/", label=old.label).content.decode()
    assert "choose another name" in page
    assert f'value="{key}"' in page
    assert list(Authenticator.objects.all()) == [old]
    alice.finish("/authenticators/add/", label="tablet")
    assert Authenticator.objects.count() == 2


def test_with_the_keeper_down_a_page_says_so_and_nothing_is_changed(
    alice: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.sign_in()
    keeper_client.close()
    monkeypatch.setattr(config, "SOCKET", "/nonexistent")
    answer = alice.get("/authenticators/add/")
    assert answer.status_code == 503
    assert "Nothing was changed" in answer.content.decode()


# Invitations


@pytest.fixture
def carol(keeper: Keeper) -> Somebody:
    person = Person.objects.create_user("carol")
    return Somebody(person, keeper)


def test_an_invitation_enrols_who_has_no_password_and_lets_choose_one(carol: Somebody) -> None:
    link = f"/invitation/{people.invite('root', carol.person)}/"
    # Programs that look at mail open links; that spends nothing.
    for _ in range(3):
        assert carol.get(link).status_code == 200
    assert carol.post(link).headers["Location"] == "/enrol/"
    carol.scan("/enrol/")
    assert carol.finish("/enrol/").status_code == 200
    assert "Choose a password" in carol.get("/").content.decode()
    assert carol.get("/password/").status_code == 200
    new = "a horse of another colour"
    assert carol.post("/password/", {"password": new, "again": new}).headers["Location"] == "/"
    assert carol.get("/").status_code == 200
    other = Somebody(carol.person, carol.keeper, carol.key)
    assert other.password(new).headers["Location"] == "/login/code/"


def test_an_invitation_works_once_and_not_after_its_end(carol: Somebody) -> None:
    link = f"/invitation/{people.invite('root', carol.person)}/"
    carol.post(link)
    carol.scan("/enrol/")
    carol.finish("/enrol/")
    assert Somebody(carol.person, carol.keeper).get(link).status_code == 404
    late = f"/invitation/{people.invite('root', carol.person)}/"
    Invitation.objects.update(expires=timezone.now())
    assert carol.get(late).status_code == 404
    assert carol.post(late).status_code == 404


def test_a_second_invitation_voids_the_first_one_also_when_its_page_is_open(carol: Somebody) -> None:
    first = f"/invitation/{people.invite('root', carol.person)}/"
    carol.post(first)
    carol.scan("/enrol/")
    people.invite("root", carol.person)
    assert carol.finish("/enrol/").status_code == 403
    assert not carol.person.enrolled


def test_an_invitation_does_not_pass_by_an_authenticator_that_there_is(alice: Somebody) -> None:
    thief = Somebody(alice.person, alice.keeper)
    thief.post(f"/invitation/{people.invite('root', alice.person)}/")
    assert thief.get("/enrol/").headers["Location"] == "/login/code/"
    assert thief.get("/").headers["Location"] == "/login/"


# What one has


def test_a_second_authenticator_is_added_after_a_code_and_both_sign_in(alice: Somebody) -> None:
    alice.sign_in()
    old = alice.key
    alice.scan("/authenticators/add/")
    assert alice.finish("/authenticators/add/", label="tablet").status_code in (200, 302)
    assert {each.label for each in Authenticator.objects.all()} == {"phone", "tablet"}
    for key in (old, alice.key):
        assert Somebody(alice.person, alice.keeper, key).sign_in().headers["Location"] == "/"


@pytest.mark.parametrize("page", ["/authenticators/add/", "/password/", "/authenticators/{}/replace/"])
def test_what_changes_the_sign_in_asks_for_a_code_first(
    alice: Somebody, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.sign_in()
    monkeypatch.setattr("pam_totp.directory.portal.visit.LATELY", 0)
    path = page.format(Authenticator.objects.get().ident)
    assert alice.get(path).headers["Location"] == f"/confirm/?next={path}"
    monkeypatch.setattr("pam_totp.directory.portal.visit.LATELY", 300)
    assert alice.post(f"/confirm/?next={path}", {"code": "000000"}).status_code == 200
    assert alice.post(f"/confirm/?next={path}", {"code": alice.code()}).headers["Location"] == path
    assert alice.get(path).status_code == 200


def test_a_replaced_authenticator_works_until_the_new_one_is_confirmed(alice: Somebody) -> None:
    alice.sign_in()
    old, path = alice.key, f"/authenticators/{Authenticator.objects.get().ident}/replace/"
    alice.scan(path)
    assert Somebody(alice.person, alice.keeper, old).sign_in().status_code == 302
    alice.finish(path)
    assert Authenticator.objects.count() == 1
    other = Somebody(alice.person, alice.keeper, old)
    other.password()
    assert other.post("/login/code/", {"code": other.code()}).status_code == 200
    assert Somebody(alice.person, alice.keeper, alice.key).sign_in().status_code == 302


def test_an_authenticator_is_removed_with_a_code_and_the_last_one_stays(alice: Somebody) -> None:
    alice.sign_in()
    second = enrol(alice, "tablet")
    path = f"/authenticators/{second.ident}/remove/"
    assert alice.post(path, {"code": "000000"}).status_code == 200
    assert Authenticator.objects.count() == 2
    assert alice.post(path, {"code": alice.code()}).headers["Location"] == "/"
    last = Authenticator.objects.get()
    assert last.label == "phone"
    assert alice.post(f"/authenticators/{last.ident}/remove/", {"code": alice.code()}).status_code == 409
    assert Audit.objects.filter(action="authenticators-removed").exists()


def test_ones_logins_are_shown_with_the_reason_of_a_refusal_and_nobody_elses(alice: Somebody, bob: Somebody) -> None:
    for person, host_reason in ((alice.person, "wrong-code"), (bob.person, "spent-code")):
        Event.objects.create(
            ident=hash_of(person.name)[:32],
            person=person,
            name=person.name,
            time=timezone.now(),
            kind="refused",
            service="sshd",
            reason=host_reason,
        )
    alice.sign_in()
    page = alice.get("/logins/").content.decode()
    assert "the code was wrong" in page
    assert "the code was used already" not in page


def test_what_was_set_up_or_removed_is_shown_without_words_of_the_log(bob: Somebody) -> None:
    bob.password()
    bob.scan("/enrol/")
    bob.finish("/enrol/")
    latest = [(each.verdict, each.where, each.why) for each in logins.latest(bob.person, 9)]
    assert ("Authenticator set up", "this portal", "") in latest
    assert "Authenticator set up" in bob.get("/logins/").content.decode()


def test_who_has_to_enrol_is_told_how_many_days_are_left(bob: Somebody) -> None:
    Person.objects.filter(name="bob").update(deadline=timezone.now() + timedelta(days=2, hours=1))
    bob.password()
    assert "3 days left" in bob.get("/enrol/").content.decode()
