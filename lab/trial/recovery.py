"""How soon serving goes on after a server answers again. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a server's return to the next committed row, and how many were not counted.

    Not counted are returns that were followed by the next fault of a server before a row.
    """

    seconds: tuple[float, ...] = field(default=())
    overtaken: int = 0

    def percentile(self, share: float) -> float | None:
        """Return the time within which that share of the recoveries was done."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_dict(self) -> dict[str, float | int | None]:
        """Return it for machines."""
        return {
            "count": len(self.seconds),
            "overtaken": self.overtaken,
            "p50": self.percentile(0.5),
            "p95": self.percentile(0.95),
            "p99": self.percentile(0.99),
            "max": max(self.seconds, default=None),
        }


def recoveries(
    heals: Sequence[tuple[str, float]],
    rows: Sequence[float],
    faults: Sequence[tuple[float, float]],
) -> Recovery:
    """Measure each return of a server: (server, when) against the rows' sorted times.

    ``faults`` are the times in which a server was broken; a return within one of them, or whose
    next row comes only after another one began, says nothing.
    """
    seconds: list[float] = []
    overtaken = 0
    for _, at in heals:
        index = bisect.bisect_left(rows, at)
        if index == len(rows):
            overtaken += 1
            continue
        served = rows[index]
        if any(begin < served and end > at + _SAME for begin, end in faults):
            overtaken += 1
        else:
            seconds.append(served - at)
    return Recovery(tuple(seconds), overtaken)


_SAME = 0.5
"""Seconds between a server's return and the end of the fault that it ended."""
