"""A fault of a trial: when it began, happened and ended, and which workers it affected."""

from __future__ import annotations

from dataclasses import dataclass

from lab.trial.faults import Course
from lab.trial.recovery import Disturbance
from lab.trial.schedule import Planned

FAULT_TIMEOUT = 300.0
"""Seconds after its time within which a fault must be proved and healed, or it is abandoned."""


@dataclass(slots=True)
class Happened:
    """A fault as it happened. Times are in seconds since the trial began."""

    planned: Planned
    course: Course
    begun_at: float
    on_at: float | None = None
    off_at: float | None = None
    done: bool = False
    proof: str | None = None
    silence: float | None = None
    """The longest seconds without a row, from the fault's start until all was whole again."""

    def overdue(self, now: float, last_over: float) -> bool:
        """Return whether to abandon the fault. While it waits for its turn, other faults extend it.

        ``last_over``: when the latest fault ended.
        """
        since = max(self.begun_at, last_over) if self.on_at is None else self.on_at
        return now > since + self.planned.lasts + FAULT_TIMEOUT

    def disturbance(self, workers: int) -> Disturbance | None:
        """Return which workers the fault prevented from serving; None if none."""
        if self.on_at is None or self.off_at is None:
            return None
        kind = self.planned.kind
        if kind.startswith(("broker.", "database.", "outage.", "node.", "prune.")):
            return Disturbance(self.on_at, self.off_at)
        if kind.startswith("worker.") or ".worker-" in kind:
            return Disturbance(self.on_at, self.off_at, self.planned.pick % workers)
        return None
