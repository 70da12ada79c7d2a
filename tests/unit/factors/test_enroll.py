"""New authenticators, and QR codes that an independent program reads."""

from __future__ import annotations

import base64
import socket
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from pam_totp.cache.accounts import ACTIVE, MOST_AUTHENTICATORS, PENDING, Account, Authenticator
from pam_totp.cache.ledger import Ledger
from pam_totp.errors import UsageError
from pam_totp.factors import enroll
from pam_totp.host.clock import Moment
from pam_totp.host.config import Config
from tests.unit.pretend import BOOT, code
from tests.unit.scan import scan

if TYPE_CHECKING:
    from pathlib import Path

NOW_STEP = 56_666_667


def account(*labels: str) -> Account:
    """An account with these active authenticators."""
    authenticators = [
        Authenticator(f"{number:016}", ACTIVE, label, "local", number, bytes([number] * 20))
        for number, label in enumerate(labels)
    ]
    return Account("alice", 1001, authenticators, Ledger())


def labels(account: Account) -> list[tuple[str, str]]:
    return [(each.label, each.state) for each in account.authenticators]


@pytest.mark.parametrize("label", ["phone", "x", "x" * 32, "key fob #2", "Zoës Handy"])
def test_a_label_is_short_and_printable(label: str) -> None:
    assert enroll.check_label(label) == label


@pytest.mark.parametrize("label", ["", "x" * 33, "a:b", "a\nb", "a\tb", "\x1b[2J", "\u202e"])
def test_any_other_label_is_refused(label: str) -> None:
    with pytest.raises(UsageError, match="1 to 32 printable"):
        enroll.check_label(label)


def test_a_new_authenticator_is_pending_beside_the_active_ones() -> None:
    user = account("phone")
    new = enroll.begin(user, "phone", 77)
    assert labels(user) == [("phone", ACTIVE), ("phone", PENDING)]
    assert user.pending is new
    assert new.created == 77


def test_there_is_one_pending_authenticator_at_most() -> None:
    user = account("phone")
    first = enroll.begin(user, "one", 1)
    second = enroll.begin(user, "two", 2)
    assert labels(user) == [("phone", ACTIVE), ("two", PENDING)]
    assert first.secret != second.secret


def test_five_authenticators_are_the_most() -> None:
    assert MOST_AUTHENTICATORS == 5
    user = account(*"abcd")
    enroll.begin(user, "e", 1)
    full = account(*"abcde")
    with pytest.raises(UsageError, match=r"which is the most.*reset alice --label"):
        enroll.begin(full, "f", 1)
    assert len(full.authenticators) == 5
    enroll.begin(full, "c", 1)  # it takes the place of the one with the same label
    assert enroll.confirm(full, code(full.authenticators[-1].secret, NOW_STEP), NOW_STEP, 1)
    assert sorted(labels(full)) == [(label, ACTIVE) for label in "abcde"]


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_the_first_right_code_activates_and_is_spent(offset: int) -> None:
    user = account()
    new = enroll.begin(user, "phone", 1)
    assert enroll.confirm(user, code(new.secret, NOW_STEP + offset), NOW_STEP, 1)
    assert labels(user) == [("phone", ACTIVE)]
    assert user.ledger.mark(new.identifier).step == NOW_STEP + offset


@pytest.mark.parametrize("offset", [-2, 2, 20])
def test_a_code_of_another_time_activates_nothing(offset: int) -> None:
    user = account()
    new = enroll.begin(user, "phone", 1)
    shown = code(new.secret, NOW_STEP + offset)
    assert not enroll.confirm(user, shown, NOW_STEP, 1)
    assert labels(user) == [("phone", PENDING)]
    assert enroll.seconds_off(user, shown, NOW_STEP) == 30 * offset


def test_a_wrong_code_activates_nothing() -> None:
    user = account()
    new = enroll.begin(user, "phone", 1)
    shown = code(new.secret, NOW_STEP + 500)
    assert not enroll.confirm(user, shown, NOW_STEP, 1)
    assert enroll.seconds_off(user, shown, NOW_STEP) is None


def test_where_nothing_is_pending_there_is_nothing_to_confirm() -> None:
    user = account("phone")
    shown = code(user.authenticators[0].secret, NOW_STEP)
    assert not enroll.confirm(user, shown, NOW_STEP, 1)
    assert enroll.seconds_off(user, shown, NOW_STEP) is None


def test_a_confirmed_authenticator_replaces_that_of_the_same_label_only() -> None:
    user = account("phone", "fob")
    old = user.authenticators[0]
    new = enroll.begin(user, "phone", 1)
    assert enroll.confirm(user, code(new.secret, NOW_STEP), NOW_STEP, 1)
    assert labels(user) == [("fob", ACTIVE), ("phone", ACTIVE)]
    assert old not in user.authenticators


def test_all_authenticators_or_those_of_a_label_are_removed() -> None:
    user = account("phone", "fob")
    assert not enroll.remove(user, "other")
    assert enroll.remove(user, "phone")
    assert labels(user) == [("fob", ACTIVE)]
    assert enroll.remove(user, None)
    assert labels(user) == []
    assert not enroll.remove(user, None)


def test_failures_end_with_the_last_active_authenticator_and_no_earlier() -> None:
    user = account("phone", "fob")
    user.ledger.mark("x").step = 5
    user.ledger.fail("net:", "", Moment(0, BOOT, 0), 10)
    enroll.begin(user, "new", 1)
    enroll.remove(user, "phone")
    assert user.ledger.row == 1
    enroll.remove(user, "fob")
    assert (user.ledger.row, user.ledger.mark("x").step) == (0, 5)


def test_the_first_enrolment_is_remembered_whatever_takes_its_place() -> None:
    user = account()
    assert user.enrolled is None
    for created, label in ((50, "phone"), (60, "phone"), (70, "fob")):
        secret = enroll.begin(user, label, created).secret
        assert enroll.confirm(user, code(secret, NOW_STEP), NOW_STEP, 1)
        assert user.enrolled == 50
    assert [each.created for each in user.active] == [60, 70]
    enroll.remove(user, "phone")
    assert Account("alice", 1001, user.active, Ledger.decode(user.ledger.encode())).enrolled == 50


@pytest.mark.parametrize("change", ["replace", "remove"])
def test_the_first_enrolment_of_a_record_of_0_1_0_is_remembered_from_the_next_change_on(change: str) -> None:
    user = account("phone", "fob")
    assert (user.enrolled, user.ledger.enrolled) == (0, None)
    if change == "replace":
        secret = enroll.begin(user, "phone", 77).secret
        assert enroll.confirm(user, code(secret, NOW_STEP), NOW_STEP, 1)
    else:
        enroll.remove(user, "phone")
    assert min(each.created for each in user.active) == 1
    assert user.enrolled == 0


def test_a_reset_of_everything_begins_the_first_enrolment_anew() -> None:
    user = account("phone", "fob")
    enroll.remove(user, None)
    assert user.enrolled is None
    secret = enroll.begin(user, "phone", 77).secret
    assert enroll.confirm(user, code(secret, NOW_STEP), NOW_STEP, 1)
    assert user.enrolled == 77


def test_a_key_is_shown_in_base32_and_in_groups_of_four() -> None:
    secret = bytes(range(20))
    text = enroll.base32(secret)
    assert base64.b32decode(text) == secret
    assert enroll.grouped(text) == " ".join(text[start : start + 4] for start in range(0, 32, 4))
    assert "=" not in enroll.base32(b"123456")


@pytest.mark.parametrize(("issuer", "name"), [("", "alice"), ("Example & Söhne", "alice@{host}")])
def test_the_uri_says_whose_code_it_is_and_for_what(issuer: str, name: str) -> None:
    config = Config()
    config.issuer = issuer
    user = account("phone")
    uri = urlsplit(enroll.uri(user, user.authenticators[0], config))
    host = socket.gethostname()
    issuer, name = issuer or host, name.format(host=host)
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", f"/{issuer}:{name}")
    fields = dict(parse_qsl(uri.query, strict_parsing=True))
    assert base64.b32decode(fields.pop("secret")) == user.authenticators[0].secret
    assert fields == {"issuer": issuer}  # SHA-1, six digits and 30 s are what every app takes by itself


@pytest.mark.parametrize("style", ["auto", *enroll.STYLES[:-1]])
@pytest.mark.parametrize("length", [20, 100, 400])
def test_a_qr_code_is_read_by_an_independent_program(style: str, length: int, tmp_path: Path) -> None:
    text = f"otpauth://totp/alice?secret={'A2' * 16}&issuer={'x' * length}"
    assert scan(enroll.qr(text, style), tmp_path, light=style.endswith("-light")) == text


@pytest.mark.parametrize("style", ["utf8", "ascii"])
def test_for_a_light_terminal_the_other_half_is_drawn(style: str) -> None:
    dark, light = enroll.qr("text", style), enroll.qr("text", f"{style}-light")
    other = {"utf8": str.maketrans(" █▀▄", "█ ▄▀"), "ascii": str.maketrans(" #", "# ")}[style]
    assert light == dark.translate(other)
    assert light[0] == " "  # the quiet zone is as light as the terminal


@pytest.mark.parametrize(("style", "characters"), [("utf8", " ▀▄█"), ("ascii", " #")])
def test_a_qr_code_is_a_rectangle_of_few_characters(style: str, characters: str) -> None:
    lines = enroll.qr("text", style).split("\n")
    assert {len(line) for line in lines} == {len(lines[0])}
    assert set("".join(lines)) <= set(characters)


def test_blocks_take_half_the_width_and_half_the_height() -> None:
    wide, small = enroll.qr("x" * 200, "ascii").split("\n"), enroll.qr("x" * 200, "utf8").split("\n")
    assert len(small[0]) < 0.6 * len(wide[0])
    assert len(small) < 0.6 * len(wide)


@pytest.mark.parametrize(
    ("style", "user", "issuer", "fits"),
    [
        ("ascii", "alice", "", True),
        ("ascii", "alice", "Example Ltd", True),
        ("ascii", "x" * 32, "x" * 64, False),
        ("utf8", "x" * 32, "x" * 64, True),
        ("utf8", "x" * 32, "\u4f8b" * 64, False),
    ],
)
def test_80_columns_are_enough_for_usual_names(
    style: str, user: str, issuer: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "shell1")
    config = Config()
    config.issuer = issuer
    owner = Account(user, 1001, account("phone").authenticators, Ledger())
    drawn = enroll.qr(enroll.uri(owner, owner.authenticators[0], config), style)
    assert (len(drawn.partition("\n")[0]) <= 80) == fits


def test_no_qr_code_is_drawn_where_none_is_wanted() -> None:
    assert enroll.qr("text", "none") == ""


def test_a_new_authenticator_waits_for_confirmation_with_160_random_bits() -> None:
    new = [enroll.fresh("phone", 5) for _ in range(100)]
    assert {(each.state, each.label, each.source, each.created) for each in new} == {(PENDING, "phone", "local", 5)}
    assert len({each.secret for each in new}) == len({each.identifier for each in new}) == 100
    assert {len(each.secret) for each in new} == {20}


def test_only_the_pending_one_is_cancelled_and_only_under_its_label() -> None:
    user = account("phone")
    active = user.authenticators[0]
    pending = enroll.begin(user, "phone", 1)
    assert not enroll.cancel(user, "fob")
    assert enroll.cancel(user, "phone")
    assert user.authenticators == [active]
    assert user.ledger.issued is None
    assert not enroll.cancel(user, None)
    assert pending.state == "pending"


def test_a_secret_that_is_brought_along_is_kept_and_may_be_activated_without_a_code() -> None:
    user = account("phone")
    user.ledger.grace = [[0, "", 0], 0]
    begun = enroll.begin(user, "phone", 77, b"twenty bytes of a key")
    assert begun.secret == b"twenty bytes of a key"
    enroll.activate(user, begun)
    assert user.active == [begun]
    assert user.ledger.issued is None
    assert user.ledger.grace is None


def test_a_picture_for_paper_has_its_quiet_zone() -> None:
    modules = enroll.modules("otpauth://totp/x?secret=AAAA")
    assert {len(row) for row in modules} == {len(modules)}
    assert not any(any(row) for row in modules[:4])
    assert all(row[4] for row in modules[4:11])
