"""How soon serving resumes after a server answers again. Pure."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a server's return to the next committed row, for each return.

    Returns that were followed by another fault before a row are only counted, as ``overtaken``.
    """

    seconds: tuple[float, ...] = field(default=())
    overtaken: int = 0

    def percentile(self, share: float) -> float | None:
        """Return the seconds within which that share of the recoveries was over; None if none."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_dict(self) -> dict[str, float | int | list[float] | None]:
        """Return the figures as JSON fields."""
        return {
            "count": len(self.seconds),
            "overtaken": self.overtaken,
            "p50": self.percentile(0.5),
            "p95": self.percentile(0.95),
            "p99": self.percentile(0.99),
            "max": max(self.seconds, default=None),
            "seconds": [round(each, 3) for each in self.seconds],
        }


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A time in which a fault prevented serving, by all workers or by the one of that number."""

    begin: float
    end: float
    worker: int | None = None


def recoveries(
    heals: Sequence[float],
    rows: Sequence[float],
    disturbances: Sequence[Disturbance],
    workers: int,
) -> Recovery:
    """Measure each return of a server against the rows' sorted times.

    A return is not measured if something else prevented serving until the next row: another fault
    of a server, or a fault of each worker.
    """
    seconds: list[float] = []
    overtaken = 0
    for at in heals:
        index = bisect.bisect_left(rows, at)
        served = rows[index] if index < len(rows) else math.inf
        met = {d.worker for d in disturbances if d.begin < served and d.end > at + _SAME}
        if None in met or len(met) == workers or served == math.inf:
            overtaken += 1
        else:
            seconds.append(served - at)
    return Recovery(tuple(seconds), overtaken)


def silence(rows: Sequence[float], begin: float, end: float) -> float | None:
    """Return the longest time without a row after ``begin``, of those that begin before ``end``.

    ``rows`` are sorted times. Returns None if no row came after ``end``.
    """
    first = bisect.bisect_left(rows, begin)
    last = bisect.bisect_left(rows, end)
    if last == len(rows):
        return None
    times = [begin, *rows[first : last + 1]]
    return max(after - before for before, after in itertools.pairwise(times))


_SAME = 0.5
"""Seconds between a server's return and the end of the fault that it ended."""
