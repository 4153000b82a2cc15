"""Whether a server is seen, and its current and past outages. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

PATIENCE = 4.0
"""Seconds without an answer and without an error after which a server counts as not seen."""

SLOW_PATIENCE = 60.0
"""The same for SLOW."""

SLOW = {"audit", "outbox"}
"""What may take a while to count: the clients' accounts, and the rows that wait in the table."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without answers, in Unix seconds; ``until`` is None while it lasts."""

    since: float
    until: float | None
    problem: str


class Sight:
    """One server's outages. ``now`` is Unix time; past outages are kept for ``kept`` seconds."""

    def __init__(self, now: float, kept: float, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._kept = kept
        self._begun = now
        self._seen_at: float | None = None
        self._problem: str | None = None
        self._past: deque[Outage] = deque()

    def seen(self, now: float) -> None:
        """Note an answer."""
        outage = self.outage(now)
        if outage is not None and self._seen_at is not None:
            self._past.append(Outage(outage.since, now, outage.problem))
        self._seen_at, self._problem = now, None
        while self._past and (self._past[0].until or 0) < now - self._kept:
            self._past.popleft()

    def failed(self, problem: str) -> None:
        """Note an error."""
        self._problem = problem

    def outage(self, now: float) -> Outage | None:
        """Return the current outage, if there is one."""
        since = self._begun if self._seen_at is None else self._seen_at
        if self._problem is None and self._seen_at is not None and now - since <= self._patience:
            return None
        return Outage(since, None, self._problem or "no answer yet")

    def outages(self, now: float) -> list[Outage]:
        """Return the kept outages and the current one, oldest first."""
        lasting = self.outage(now)
        return [*self._past, *([lasting] if lasting and self._seen_at is not None else [])]

    @property
    def known(self) -> bool:
        """Whether the server's state is known, even if it is unavailable."""
        return self._seen_at is not None or self._problem is not None
