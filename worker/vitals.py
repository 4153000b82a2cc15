"""What a worker knows about itself: its state, for the health endpoints, and its counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from turnwise.errors import InvalidRequest
from worker.settle import CONFLICT, INVALID
from worker.store import Outcome

ALIVE_WITHIN = 60.0
"""Seconds. A turn of the loop takes a second, or as long as one write to a hung database."""


class Vitals:
    """Written by the worker's one thread, read by others."""

    def __init__(self) -> None:
        self.consuming = False
        self.storing = False
        self.in_hand = 0
        self.served = 0
        self.repeated = 0
        self.dead_lettered: Counter[str] = Counter({INVALID: 0, CONFLICT: 0})
        self._turned = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the loop turns. Says nothing about the servers: their absence is no death."""
        return time.monotonic() - self._turned < ALIVE_WITHIN

    @property
    def ready(self) -> bool:
        """Whether it consumes and is able to store."""
        return self.consuming and self.storing

    def turned(self) -> None:
        """Note a turn of the loop."""
        self._turned = time.monotonic()

    def count(self, results: Iterable[Outcome | InvalidRequest]) -> None:
        """Count what became of a batch."""
        for result in results:
            if result is Outcome.SERVED:
                self.served += 1
            elif result is Outcome.REPEATED:
                self.repeated += 1
            elif result is Outcome.CONFLICT:
                self.dead_lettered[CONFLICT] += 1
            else:
                self.dead_lettered[INVALID] += 1
