"""When the next request is due. Pure: the caller brings the time."""

from __future__ import annotations

BATCH = 500
"""The most requests accepted at once: they share one transaction and its fsync."""

MAKE_UP = 0.1
"""Seconds of lateness that are made up for by several requests at once. What comes later than
that (a suspended process, a stalled disk) is left out: nobody wants an hour's requests at once."""


class Pace:
    """One request per quantum, counted from the first one: a late one does not delay the next."""

    def __init__(self, quantum: float, count: int | None, now: float) -> None:
        """Take ``quantum`` seconds (0: as fast as it goes) and ``count`` (None: no end)."""
        self._quantum = quantum
        self._remaining = count
        self._next = now

    @property
    def finished(self) -> bool:
        """Whether all of ``count`` are given out."""
        return self._remaining == 0

    def due(self, now: float) -> int:
        """Return how many requests are due now, and count them as given out."""
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
        """Return the seconds until the next one is due."""
        return max(0.0, self._next - now) if self._quantum else 0.0
