"""What is kept, put back to an older state: what was spent since does not work again while anything knows of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.login.host import Host, Person

pytestmark = pytest.mark.usefixtures("key_and_code")

CACHE, RUN = "/var/lib/pam-totp", "/run/pam-totp"


@contextmanager
def put_back(host: Host, *places: str) -> Iterator[None]:
    """Have what is in these directories now there again afterwards, as a snapshot or a copy of root's has it."""
    host.machine.sh('rm -rf /root/older; for place; do mkdir -p "/root/older$place"; done', *places)
    host.machine.sh('for place; do cp -a "$place/." "/root/older$place/"; done', *places)
    yield
    host.machine.sh('for place; do rm -rf "$place"/*; cp -a "/root/older$place/." "$place/"; done', *places)


def refused(person: Person, *answers: str) -> bool:
    """Whether each of these answers is asked for, and lets nobody in."""
    mark = person.host.machine.mark()
    results = [person.log_in(answer) for answer in answers]
    assert {(result.ok, result.asked_code) for result in results} == {(False, True)}
    return [line["outcome"] for line in person.host.decisions(mark)] == ["refused"] * len(answers)


def test_an_older_cache_put_back_lets_nobody_in_with_what_was_spent_or_removed_since(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    tablet = host.enroll(alice, label="tablet")
    assert tablet.log_in(tablet.code()).ok
    with put_back(host, CACHE):
        spent = alice.code()
        assert alice.log_in(spent).ok
        assert alice.log_in(codes[0]).ok
        host.machine.run(["pam-totp", "reset", "--yes", alice.name, "--label", "tablet"])
    assert refused(alice, spent, codes[0], tablet.code(1))
    # What nobody has used is as good as ever, and spent by it.
    following = alice.code(1)
    assert alice.log_in(following).ok
    assert alice.log_in(codes[1]).ok
    assert refused(alice, following, codes[1])


def test_a_snapshot_that_knows_nothing_of_a_code_takes_it_once_more_and_never_again(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    before = alice.code()
    assert alice.log_in(before).ok
    with put_back(host, CACHE, RUN):
        since = alice.code(1)
        assert alice.log_in(since).ok
        assert alice.log_in(codes[0]).ok
    # A limit, and docs/threat-model.md says so: nothing of the machine remembers these two.
    assert alice.log_in(since).ok
    assert alice.log_in(codes[0]).ok
    assert refused(alice, before, since, codes[0])
