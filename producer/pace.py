"""When the next request is due. Pure: the caller passes the time."""

from __future__ import annotations

BATCH = 500
"""The most requests accepted at once: they share one transaction and its fsync."""

MAKE_UP = 0.1
"""Seconds of delay that are made up for by sending several requests at once. After a longer delay
(a suspended process, a stalled disk) the rest is skipped, rather than sent in one burst."""


class Pace:
    """One request per quantum, counted from the first: a late request does not delay the next."""

    def __init__(self, quantum: float, count: int | None, now: float) -> None:
        """``quantum``: seconds (0: as fast as possible); ``count``: requests (None: no end)."""
        self._quantum = quantum
        self._remaining = count
        self._next = now

    @property
    def finished(self) -> bool:
        """Whether all of ``count`` were due."""
        return self._remaining == 0

    def due(self, now: float) -> int:
        """Return how many requests are due now, and count them as sent."""
        if not self._quantum:
            due = BATCH
        elif now < self._next:
            due = 0
        else:
            late = int((now - self._next) / self._quantum)
            due = 1 + min(late, int(MAKE_UP / self._quantum))
            self._next += (1 + late) * self._quantum
        if self._remaining is not None:
            due = min(due, self._remaining)
            self._remaining -= due
        return due

    def wait(self, now: float) -> float:
        """Return the seconds until the next request is due."""
        return max(0.0, self._next - now) if self._quantum else 0.0
