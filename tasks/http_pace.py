"""How many requests are under way at once: grows while the server keeps up, halves when it does not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator


class Pace:
    """A limit on parallel requests that adapts (additive increase, multiplicative decrease), shared by threads."""

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.limit = self.most
        self._busy = 0
        self._calm = 0
        self._not_before = 0.0
        self._condition = threading.Condition()

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the places; waits for a place, and for the end of a pause that the server asked for."""
        self._enter()
        try:
            yield
        finally:
            with self._condition:
                self._busy -= 1
                self._condition.notify_all()

    def _enter(self) -> None:
        with self._condition:
            while True:
                pause = self._not_before - time.monotonic()
                if pause <= 0 and self._busy < self.limit:
                    break
                self._condition.wait(pause if pause > 0 else None)
            self._busy += 1

    def slow(self, seconds: float = 0.0) -> None:
        """Halve the limit and begin nothing for `seconds`: the server said that it is too much."""
        with self._condition:
            now = time.monotonic()
            # Requests that were under way together and are refused together are one sign, not many.
            if now >= self._not_before:
                self.limit = max(1, self.limit // 2)
            self._calm = 0
            self._not_before = max(self._not_before, now + seconds)
            self._condition.notify_all()

    def fine(self) -> None:
        """Count a request that went well; as many in a row as twice the limit allow one more at once."""
        with self._condition:
            self._calm += 1
            if self._calm >= 2 * self.limit and self.limit < self.most:
                self.limit += 1
                self._calm = 0
                self._condition.notify_all()
