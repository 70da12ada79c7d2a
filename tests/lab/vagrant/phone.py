"""An authenticator app: it shows the code of now, and its owner never types one twice."""

from __future__ import annotations

import time

from tests.lab import cache
from tests.lab.code import STEP, code, left

# Seconds: a code that is typed has to be evaluated in the step that it was read in.
MARGIN = 6.0


class Phone:
    """Computes codes by oathtool with this computer's clock. `secret` in base32; what was spent before now is spent."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._last = _step()

    def read(self) -> str:
        """The current code; waits for the next one where this one is spent or about to end."""
        return self._read(0)

    def slow(self) -> str:
        """The code that a phone shows whose clock is one step slow."""
        return self._read(-1)

    def fast(self) -> str:
        """The code that a phone shows whose clock is one step fast."""
        return self._read(1)

    def far(self) -> str:
        """The code of five minutes from now."""
        return code(self.secret, time.time() + 10 * STEP)

    def wait(self) -> None:
        """Wait until there is a code that is not spent, and most of its step to come."""
        while _step() <= self._last or left() < STEP - MARGIN:
            time.sleep(left() + 0.1)

    def _read(self, offset: int) -> str:
        while _step() + offset <= self._last or left() < MARGIN:
            cache.say(f"  waiting {left():.0f} s for the next code")
            time.sleep(left() + 0.1)
        self._last = _step() + offset
        return code(self.secret, self._last * STEP)


def _step() -> int:
    return int(time.time()) // STEP
