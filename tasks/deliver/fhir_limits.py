"""What a server stands: how large a bundle, and when it is better left alone."""

from __future__ import annotations

import threading
import time

from tasks.deliver.fhir_order import Entry


class BundleSize:
    """The size of bundles, found by halving what was refused; shared by the writers of one destination."""

    def __init__(self, entries: int, size: int) -> None:
        self.entries = entries
        self.size = size
        self._doubts = 0
        self._lock = threading.Lock()

    def refused(self, bundle: list[Entry], *, by_bytes: bool) -> None:
        """Learn from a bundle that was refused for its size."""
        if len(bundle) < 2:
            return
        total = sum(len(entry.body) for entry in bundle)
        largest = max(len(entry.body) for entry in bundle)
        with self._lock:
            if by_bytes:
                self.size = min(self.size, total // 2)
            # One giant among small ones says nothing about how many of the small ones fit.
            if not by_bytes or largest < total / 4:
                self.entries = max(1, min(self.entries, len(bundle) // 2))

    def doubted(self, bundle: list[Entry]) -> None:
        """Learn from a bundle that was refused whole and taken in halves: twice is not an accident."""
        with self._lock:
            self._doubts += 1
            if self._doubts >= 2:
                self.entries = max(1, min(self.entries, len(bundle) // 2))


class Breaker:
    """Stops asking a server that fails: opens after `most` failures in a row, lets one request try again later.

    `cooldown` is the first pause in seconds; it doubles with every try that fails, up to `longest`.
    """

    def __init__(self, most: int = 5, cooldown: float = 2.0, longest: float = 60.0) -> None:
        self._most, self._first, self._longest = most, cooldown, longest
        self._lock = threading.Lock()
        self._failures = 0
        self._cooldown = cooldown
        self._open_until = 0.0

    def pause(self) -> float:
        """Return the seconds until the server may be asked; 0 for go ahead, which when open is said to one only."""
        with self._lock:
            if self._failures < self._most:
                return 0.0
            now = time.monotonic()
            if now < self._open_until:
                return self._open_until - now
            self._open_until = now + self._cooldown
            return 0.0

    def left(self) -> float:
        """Return the seconds that the server is left alone yet, without asking for the one try."""
        with self._lock:
            return max(0.0, self._open_until - time.monotonic()) if self._failures >= self._most else 0.0

    def failed(self) -> None:
        """Count a failure of the server (not of a resource)."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._most:
                self._open_until = time.monotonic() + self._cooldown
                self._cooldown = min(self._cooldown * 2, self._longest)

    def worked(self) -> None:
        """Close again."""
        with self._lock:
            self._failures = 0
            self._cooldown = self._first
