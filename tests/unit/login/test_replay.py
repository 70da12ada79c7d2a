"""A step is never accepted twice, whatever happens to the clock, the disk and the cache in between."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from pam_totp.factors import otp
from pam_totp.host.config import Arguments
from pam_totp.login import login
from tests.unit.pretend import MEMORY, Host, code

if TYPE_CHECKING:
    from tests.unit.conftest import Disk

SOURCES = st.sampled_from(["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", ""])
CHARGED = ("code", "wrong-code", "spent-code", "code-of-another-time")


class Answer(login.Conversation):
    """A user who types this if asked."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def ask(self, prompt: str, echo: bool = False) -> str | None:
        return self._answer

    def tell(self, text: str) -> None:
        pass


class Replay(RuleBasedStateMachine):
    """A host that lives through anything, and a list of the steps that let somebody in."""

    def __init__(self, disk: Disk, accepted: list[int]) -> None:
        super().__init__()
        self.disk = disk
        self.disk.full = False
        self.total = accepted
        self.host = Host(tempfile.mkdtemp(prefix="pam-totp-", dir=MEMORY))
        self.secret = self.host.enroll()
        self.spent: list[int] = []
        self.backup = self.host.snapshot()
        self.only_in_run = False

    def teardown(self) -> None:
        shutil.rmtree(self.host.root)

    def attempt(self, step: int, source: str) -> None:
        request = login.Request("alice", "sshd", source)
        answer = Answer(code(self.secret, max(0, step)))
        outcome = login.attempt(request, Arguments([]), self.host.paths, self.host.now, answer)
        assert outcome.verdict in ("accepted", "refused", "unavailable"), outcome.detail
        if outcome.reason in CHARGED:
            self.only_in_run = self.disk.full
        if outcome.verdict == "accepted":
            assert step > max(self.spent, default=-1), f"step {step} after {self.spent}"
            self.spent.append(step)
            self.total.append(step)

    @rule(pause=st.sampled_from([0, 1, 30, 90, 4000]), steps=st.integers(-2, 2), source=SOURCES)
    def log_in(self, pause: int, steps: int, source: str) -> None:
        self.host.later(pause)
        self.attempt(otp.step_at(self.host.wall) + steps, source)

    @rule(pause=st.sampled_from([0, 4000, 90_000]), source=SOURCES)
    def log_in_correctly(self, pause: int, source: str) -> None:
        self.host.later(pause)
        self.attempt(otp.step_at(self.host.wall), source)

    @precondition(lambda self: self.spent)
    @rule(data=st.data(), source=SOURCES)
    def replay(self, data: st.DataObject, source: str) -> None:
        self.attempt(data.draw(st.sampled_from(self.spent)), source)

    @rule(seconds=st.sampled_from([1, 29, 30, 31, 90, 3600]), direction=st.sampled_from([1, -1]))
    def set_the_clock(self, seconds: int, direction: int) -> None:
        self.host.wall += direction * seconds

    @rule()
    def fill_or_free_the_disk(self) -> None:
        self.disk.full = not self.disk.full

    # What only /run knows is gone after a boot: see the design, section 3, "one attempt".
    @precondition(lambda self: not self.only_in_run)
    @rule(uptime=st.sampled_from([5, 400]))
    def boot(self, uptime: int) -> None:
        self.host.reboot(uptime)
        self.backup = self.host.snapshot()

    @rule()
    def back_up(self) -> None:
        self.backup = self.host.snapshot()

    @rule(after_a_reset=st.booleans())
    def restore(self, after_a_reset: bool) -> None:
        if after_a_reset and not self.disk.full:
            # Of a damaged record: what was removed on purpose would not come back in this boot.
            with self.host.accounts() as accounts:
                accounts.save(accounts.unreadable("alice"))
        self.host.put_back(self.backup)
        self.only_in_run = True

    @precondition(lambda self: not self.disk.full)
    @rule()
    def unlock(self) -> None:
        now = otp.step_at(self.host.wall)
        drift = max((mark.drift for mark in self.host.account().ledger.marks.values()), default=0)
        self.host.change(lambda account: account.ledger.unlock(now, 1))
        self.only_in_run = False
        # An administrator says that a mark in the future is wrong: down to here, and no further, it is given up.
        self.spent = [step for step in self.spent if step <= now + drift + 1]


def test_a_step_is_never_accepted_twice(disk: Disk) -> None:
    accepted: list[int] = []
    examples = (settings.default or settings()).max_examples // 2
    lives = settings(max_examples=examples, stateful_step_count=40)
    run_state_machine_as_test(lambda: Replay(disk, accepted), settings=lives)  # type: ignore[no-untyped-call]  # theirs
    assert len(accepted) > examples
