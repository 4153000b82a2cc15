"""A worker's state and counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnwise.errors import InvalidRequest
from turnwise.letter import CONFLICT, INVALID
from turnwise.message import Request
from worker.failures import DIED, FAILED, REJECTED, TIMEOUT
from worker.store import Outcome


@dataclass(frozen=True, slots=True)
class Batch:
    """One commit: how many requests, the seconds it took, and the seconds since they arrived."""

    size: int
    commit_seconds: float
    delivery_seconds: float


class Vitals:
    """Written by the worker's one thread, read by others.

    If set, ``on_batch`` is called with each batch, ``on_served`` with the new requests in it, and
    ``on_handled`` with the seconds of each call of a handler.
    """

    def __init__(self) -> None:
        self.consuming = False
        self.storing = False
        self.in_hand = 0
        self.served = 0
        self.repeated = 0
        self.dead_lettered: Counter[str] = Counter({INVALID: 0, CONFLICT: 0})
        self.lost: Counter[str] = Counter({"broker": 0, "database": 0})
        """How often a connection to a server was lost, or could not be made."""
        self.on_batch: Callable[[Batch], None] | None = None
        self.on_served: Callable[[Sequence[Request]], None] | None = None
        self.failed = 0
        self.attempts: Counter[str] = Counter({FAILED: 0, REJECTED: 0, TIMEOUT: 0, DIED: 0})
        """The number of failed attempts by reason."""
        self.failures_waiting = 0
        self.failures_given_up = 0
        self.on_handled: Callable[[float], None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the worker consumes and can store."""
        return self.consuming and self.storing

    def count(self, results: Sequence[Outcome | InvalidRequest]) -> None:
        """Count the results of a batch."""
        served = results.count(Outcome.SERVED)
        self.served += served
        if served == len(results):
            return
        self.repeated += results.count(Outcome.REPEATED)
        self.failed += results.count(Outcome.FAILED)
        self.dead_lettered[CONFLICT] += results.count(Outcome.CONFLICT)
        self.dead_lettered[INVALID] += sum(isinstance(each, InvalidRequest) for each in results)
