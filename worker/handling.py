"""Serving with a handler, as the replica sees it: new requests, and failures that are due."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from turnwise.database import Database
from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest
from turnwise.handler import Handler
from turnwise.loop import Loop
from turnwise.message import Request
from worker.handler import Terms, Turns, Work
from worker.handler_thread import Beside
from worker.handler_watch import Watch
from worker.store import Outcome
from worker.vitals import Vitals

T = TypeVar("T")

LOOK_EVERY = 5.0
"""Approximate seconds between two polls of the failures. A worker knows when its own are due; the
poll finds those of other workers, which may be dead."""


class Attempt(Protocol):
    """Retries some work until the database is available, keeping the held deliveries."""

    def __call__(self, work: Callable[[], T], /) -> T:
        """Return what the work returns once it succeeds."""


class Handling:
    """Serves with a handler, beside the loop. It may take ``stop_within`` seconds after a stop.

    Between two batches it serves due failures for as long as the previous batch took, and at least
    one. New requests and failures thus get half of the time each, however many there are.
    """

    def __init__(
        self,
        loop: Loop,
        database: Database,
        name: str,
        handler: Handler,
        terms: Terms,
        stop_within: float,
    ) -> None:
        self.vitals = Vitals()
        self.stop_within = stop_within
        self._loop = loop
        watch: Watch[Work] = Watch(terms.time_limit)
        self._turns = Turns(database, name, handler, terms, watch, self.vitals)
        self._beside = Beside(loop, database, name, self._turns, watch, stop_within)
        self._look_at = 0.0
        """When to poll the failures next (monotonic)."""
        self._share = 0.0
        """Seconds of serving time owed to failures."""

    def serve(self, works: Sequence[Work], attempt: Attempt) -> list[Outcome]:
        """Serve a batch; return the outcomes, or only the first ones if time runs out."""
        begun = time.monotonic()
        try:
            outcomes = attempt(lambda: self._beside.serve(works))
        except BaseException:
            self._turns.lose(works)
            raise
        now = time.monotonic()
        self._share += now - begun
        for work in works:
            if work.failure is not None and work.failure.due_in is not None:
                self._look_at = min(self._look_at, now + work.failure.due_in)
        return outcomes

    def between_turns(self, attempt: Attempt) -> float:
        """Serve the failures that are due; return the seconds after which to call again."""
        wait = self._look_at - time.monotonic()
        if wait > 0:
            self._share = 0.0
            return min(wait, 1.0)
        while not self._loop.stopping:
            begun = time.monotonic()
            if not attempt(self._beside.serve_due):
                self._plan(attempt(self._beside.look))
                break
            self._share -= time.monotonic() - begun
            if self._share <= 0:
                break
        self._share = 0.0
        return 0.0

    def close(self) -> None:
        """Discard the connection."""
        self._beside.close()

    def _plan(self, due_in: float | None) -> None:
        usual = LOOK_EVERY * random.uniform(0.8, 1.2)
        wait = usual if due_in is None else min(usual, max(0.0, due_in))
        self._look_at = time.monotonic() + wait


def works_of(batch: Sequence[Delivery], decoded: Sequence[Request | InvalidRequest]) -> list[Work]:
    """Return a Work for each valid request among the deliveries."""
    return [
        Work(each, delivery.redelivered)
        for delivery, each in zip(batch, decoded, strict=True)
        if isinstance(each, Request)
    ]
