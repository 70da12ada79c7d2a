"""Whatever a directory says, in whatever order: what is a host's own stays, and what is spent stays spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pam_totp.cache.accounts import Account, Authenticator
from pam_totp.cache.ledger import Ledger, Mark
from pam_totp.fleet import merge, tree
from pam_totp.host.clock import Moment
from tests.unit.pretend import BOOT

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = Moment(1_700_000_000.0, BOOT, 50_000.0)
IDS = [f"{number:032x}" for number in range(4)]
OWN = Authenticator("f" * 32, "active", "own", "local", 0, b"own" * 8)


def secret(identifier: str) -> bytes:
    return identifier.encode()[:32]


def code(number: int) -> str:
    return f"{number + 100:032x}"


records = st.builds(
    lambda ids, codes, salt, locked, must: tree.Record(
        "alice",
        tuple(tree.Authenticator(each, "phone", 0, secret(each)) for each in sorted(ids)),
        tree.Recovery(f"{salt:032x}", tuple(map(code, sorted(codes)))) if codes else None,
        locked=locked,
        must_enroll=must,
    ),
    st.sets(st.sampled_from(IDS)),
    st.sets(st.integers(0, 3)),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
)
# What happens to an account: a record comes, it is revoked, an authenticator is removed here, a code is used here.
happenings = st.lists(
    st.one_of(
        records,
        st.just("revoke"),
        st.sampled_from(IDS).map(lambda each: ("remove", each)),
        st.sampled_from(IDS).map(lambda each: ("spend", each)),
        st.just("recover"),
    ),
    max_size=12,
)


def step(account: Account, what: object) -> str | None:
    """Let it happen; returns the recovery code that was used, with its salt."""
    ledger = account.ledger
    if isinstance(what, tree.Record):
        merge.merge(account, what, "a" * 64, NOW, 1)
    elif what == "revoke":
        merge.revoke(account)
    elif what == "recover" and ledger.recovery is not None and ledger.recovery["hashes"]:
        return f"{ledger.recovery['salt']} {ledger.recovery['hashes'].pop()}"
    elif isinstance(what, tuple) and what[0] == "remove":
        account.authenticators = [each for each in account.authenticators if each.identifier != what[1]]
    elif isinstance(what, tuple):
        ledger.marks.setdefault(what[1], Mark()).step += 5
    return None


@given(happenings)
def test_own_authenticators_and_what_is_spent_stay_whatever_happens(happened: list[object]) -> None:
    account = Account("alice", 1001, [OWN], Ledger())
    marks: dict[str, int] = {}
    for what in happened:
        removed_before = set(merge.removed_here(account))
        step(account, what)
        assert OWN in account.authenticators
        identifiers = [each.identifier for each in account.authenticators]
        assert len(set(identifiers)) == len(identifiers)
        for identifier, mark in account.ledger.marks.items():
            assert mark.step >= marks.get(identifier, -1)
            marks[identifier] = mark.step
        if isinstance(what, tree.Record):
            wanted = {each.identifier for each in what.authenticators}
            assert set(identifiers) - {OWN.identifier} == wanted - removed_before
            fleet = account.ledger.fleet
            assert fleet is not None
            assert (fleet["locked"], fleet["revoked"]) == (what.locked, False)
        assert Ledger.decode(account.ledger.encode()).fleet == account.ledger.fleet


@given(happenings)
def test_a_recovery_code_that_was_used_never_comes_back_with_its_set(happened: list[object]) -> None:
    account = Account("alice", 1001, [OWN], Ledger())
    used: set[str] = set()
    salt = ""
    for what in happened:
        spent = step(account, what)
        used |= {spent} if spent else set()
        recovery = account.ledger.recovery
        if recovery is None:
            continue
        if recovery["salt"] != salt:
            # Another set, which the directory has made anew.
            salt = recovery["salt"]
            used = {each for each in used if not each.startswith(salt)}
        assert not used & {f"{salt} {each}" for each in recovery["hashes"]}


@given(happenings)
def test_after_a_revocation_nothing_of_the_directory_s_is_left_and_it_is_known(happened: list[object]) -> None:
    account = Account("alice", 1001, [], Ledger())
    for what in happened:
        step(account, what)
    known = account.ledger.fleet is not None
    merge.revoke(account)
    assert account.authenticators == []
    assert account.held_back == known
    assert not merge.revoke(account)


def test_what_is_handed_up_under_another_id_takes_its_marks_along() -> None:
    account = Account("alice", 1001, [OWN], Ledger())
    account.ledger.marks[OWN.identifier] = Mark(77)
    merge.merge(account, tree.Record("alice", (tree.Authenticator(IDS[0], "own", 0, OWN.secret),)), "a" * 64, NOW, 1)
    (only,) = account.authenticators
    assert (only.identifier, only.source, account.ledger.mark(IDS[0]).step) == (IDS[0], "directory", 77)


def test_leaving_keeps_authenticators_and_forgets_the_directory_but_for_whom_it_refuses() -> None:
    changes: list[tuple[Callable[[Account], object], bool]] = [
        (lambda account: None, False),
        (merge.revoke, True),
        (lambda account: merge.merge(account, tree.Record("alice", locked=True), "a" * 64, NOW, 1), True),
    ]
    for change, stays in changes:
        account = Account("alice", 1001, [], Ledger())
        phone = tree.Authenticator(IDS[0], "phone", 0, secret(IDS[0]))
        merge.merge(account, tree.Record("alice", (phone,)), "a" * 64, NOW, 1)
        change(account)
        merge.leave(account)
        assert (account.ledger.fleet is not None) is stays
        assert {each.source for each in account.authenticators} <= {"local"}
