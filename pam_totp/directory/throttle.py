"""How often one side may ask, in this process: against mistakes and floods. Secrets here are too long to be guessed."""

from __future__ import annotations

import threading
import time

MOST = 50_000


class Throttle:
    """So many in so many seconds, for each key."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._counts: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def wait(self, key: str) -> int:
        """Whole seconds until this key may ask again; 0: now."""
        began, count = self._counts.get(key, (0.0, 0))
        left = began + self._seconds - time.monotonic()
        return int(left) + 1 if count >= self._most and left > 0 else 0

    def count(self, key: str) -> int:
        """Count one, and say how long is to be waited, as ``wait`` does."""
        now = time.monotonic()
        with self._lock:
            began, count = self._counts.pop(key, (now, 0))
            if now - began >= self._seconds:
                began, count = now, 0
            while len(self._counts) >= MOST:
                del self._counts[next(iter(self._counts))]
            self._counts[key] = began, count + 1
        return self.wait(key) if count >= self._most else 0
