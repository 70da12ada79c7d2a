"""What is done to people."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from pam_totp.directory import audit, people
from pam_totp.directory.models import Audit, Authenticator, Claim, Invitation, Person, RecoveryCodes
from pam_totp.errors import UsageError
from pam_totp.factors import otp
from tests.directory.inside.conftest import SOURCE, Keeper, enrolled, key_of


def test_an_enrolment_is_ended_by_its_first_code_which_is_spent(keeper: Keeper) -> None:
    person = people.add("root", "alice", deadline=timezone.now())
    authenticator, key = people.begin("root", person, "phone")
    code = otp.hotp(key_of(key), keeper.time.step)
    assert people.confirm("alice", person, "000000" if code != "000000" else "111111", SOURCE).word == "refused"
    assert not person.enrolled
    assert people.confirm("alice", person, code, SOURCE).accepted
    person.refresh_from_db()
    assert (person.enrolled, person.deadline) == (True, None)
    assert people.check(person, code, SOURCE).word == "spent"
    assert Claim.objects.filter(authenticator=authenticator.ident).count() == 1


def test_the_database_holds_no_secret_that_can_be_read(keeper: Keeper) -> None:
    _, secret = enrolled(keeper, "alice")
    kept = bytes(Authenticator.objects.get().secret)
    assert secret not in kept
    for text in (secret.hex(), secret):
        assert str(text) not in repr(list(Audit.objects.values()))
        assert str(text) not in repr(keeper.log)


def test_a_code_is_accepted_once(keeper: Keeper) -> None:
    person, secret = enrolled(keeper, "alice")
    code = otp.hotp(secret, keeper.time.step)
    assert people.check(person, code, SOURCE).accepted
    assert people.check(person, code, SOURCE).word == "spent"


def test_a_code_that_a_host_has_claimed_is_refused_in_the_portal(keeper: Keeper) -> None:
    person, secret = enrolled(keeper, "alice")
    assert people.claim(person.authenticators.get().ident, keeper.time.step, None, "a" * 32)
    assert people.check(person, otp.hotp(secret, keeper.time.step), SOURCE).word == "spent"


def test_wrong_codes_make_their_source_wait_and_a_right_one_then_waits_too(keeper: Keeper) -> None:
    person, secret = enrolled(keeper, "alice")
    elsewhere = "198.51.100.7"
    wrong = otp.hotp(secret, keeper.time.step + 1000)
    for _ in range(3):
        assert people.check(person, wrong, elsewhere).word == "refused"
    found = people.check(person, otp.hotp(secret, keeper.time.step), elsewhere)
    assert (found.word, 0 < found.seconds <= 30) == ("wait", True)
    assert people.check(person, otp.hotp(secret, keeper.time.step), SOURCE).accepted


def test_somebody_who_is_locked_or_not_active_is_refused(keeper: Keeper) -> None:
    person, secret = enrolled(keeper, "alice")
    people.lock("root", person, locked=True)
    assert people.check(person, otp.hotp(secret, keeper.time.step), SOURCE).word == "locked"
    people.lock("root", person, locked=False)
    Person.objects.update(is_active=False)
    assert people.check(person, otp.hotp(secret, keeper.time.step), SOURCE).word == "locked"


def test_a_recovery_code_is_good_once_and_earlier_ones_are_void(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    first = people.new_recovery_codes("root", person)
    codes = people.new_recovery_codes("root", person)
    assert people.check(person, first[0], SOURCE).word == "refused"
    found = people.check(person, codes[0], SOURCE)
    assert (found.accepted, found.recovery) == (True, True)
    assert people.check(person, codes[0], SOURCE).word == "refused"
    assert people.check(person, codes[1].upper(), SOURCE).accepted
    assert len(RecoveryCodes.objects.get().hashes) == 8


@pytest.mark.parametrize("answer", ["", "12345", "1234567", "hello", "\uff11" * 6, "12345\n6"])
def test_what_has_not_the_form_of_a_code_is_no_guess(keeper: Keeper, answer: str) -> None:
    person, _ = enrolled(keeper, "alice")
    before = bytes(Person.objects.get().ledger)
    assert people.check(person, answer, SOURCE).word == "malformed"
    assert bytes(Person.objects.get().ledger) == before


def test_a_new_authenticator_with_the_label_of_an_old_one_replaces_it_when_it_is_confirmed(keeper: Keeper) -> None:
    person, old = enrolled(keeper, "alice")
    _, key = people.begin("alice", person, "phone")
    assert people.check(person, otp.hotp(old, keeper.time.step), SOURCE).accepted
    assert people.confirm("alice", person, otp.hotp(key_of(key), keeper.time.step), SOURCE).accepted
    assert person.authenticators.count() == 1
    assert people.check(person, otp.hotp(old, keeper.time.step + 1), SOURCE).word == "refused"


def test_there_are_five_authenticators_at_most(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    for number in range(4):
        Authenticator.objects.create(person=person, label=f"key {number}", state="active", secret=b"sealed")
    with pytest.raises(UsageError):
        people.begin("alice", person, "sixth")
    people.begin("alice", person, "phone")


def test_a_reset_takes_out_authenticators_recovery_codes_and_invitations(keeper: Keeper) -> None:
    person, secret = enrolled(keeper, "alice")
    people.new_recovery_codes("root", person)
    people.invite("root", person)
    assert people.remove("root", person) == 1
    assert not Authenticator.objects.exists()
    assert not RecoveryCodes.objects.exists()
    assert not Invitation.objects.exists()
    assert people.check(person, otp.hotp(secret, keeper.time.step), SOURCE).word == "refused"


def test_an_invitation_is_good_until_its_end_and_a_new_one_voids_it() -> None:
    person = people.add("root", "alice")
    first, second = people.invite("root", person), people.invite("root", person, 3)
    now = timezone.now()
    assert people.invited(first, now) is None
    found = people.invited(second, now)
    assert found is not None
    assert found.person == person
    assert second not in found.token_hash
    assert people.invited(second, now + timedelta(days=3)) is None
    people.lock("root", person, locked=True)
    assert people.invited(second, now) is None


def test_who_is_in_no_directory_or_there_already_is_named() -> None:
    people.add("root", "alice")
    with pytest.raises(UsageError):
        people.add("root", "alice")
    with pytest.raises(UsageError):
        people.add("root", "bob", ["nobody"])
    with pytest.raises(UsageError):
        people.find("carol")


def test_the_audit_trail_shows_what_was_changed_and_what_was_taken_out() -> None:
    for name in ("alice", "bob", "carol"):
        people.add("root", name)
    assert audit.broken() is None
    assert [each["target"] for each in audit.exported()] == ["alice", "bob", "carol"]
    middle = Audit.objects.all()[1]
    for attack in (
        lambda: Audit.objects.filter(pk=middle.pk).update(target="eve"),
        lambda: Audit.objects.filter(pk=middle.pk).delete(),
        middle.delete,
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attack()
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER audit_update")
        cursor.execute("DROP TRIGGER audit_delete")
    Audit.objects.filter(pk=middle.pk).update(target="eve")
    assert audit.broken() == middle
    Audit.objects.filter(pk=middle.pk).delete()
    found = audit.broken()
    assert found is not None
    assert found.target == "carol"


def test_an_otpauth_uri_names_the_issuer_and_the_person() -> None:
    person = Person(name="alice")
    assert people.uri(person, "ABCD", "Example & Co") == (
        "otpauth://totp/Example%20%26%20Co%3Aalice?secret=ABCD&issuer=Example%20%26%20Co"
    )
