"""The lines of the report: which figure, beside which other one, and what is to be reached."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.bench import large, latency, sending, serving
from lab.bench.contender import Contender, Figures

DRAINED = 60_000
"""Requests for a contender that drains."""

CONTENDERS: dict[str, Contender] = {
    "textbook": serving.textbook,
    "strict": serving.ours(1, 5000),
    "drain 200": serving.ours(200, DRAINED),
    "drain 1000": serving.ours(1000, DRAINED),
    "drain 200, full table": serving.full_table(200, DRAINED),
    "drain 200, 4 workers": serving.ours(200, DRAINED, workers=4),
    "valid": serving.among_hostile(200, 10_000, share=0),
    "valid among hostile": serving.among_hostile(200, 10_000, share=1),
    "latency": latency.latency,
    "textbook publisher": sending.textbook_publisher,
    "producer": sending.producer,
    "start": sending.start,
    "backlog": large.backlog,
    "audit": large.audit,
}

ONCE = frozenset({"backlog", "audit"})
"""Measured in the first round only: they take minutes."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a contender."""

    contender: str
    name: str


@dataclass(frozen=True, slots=True)
class Line:
    """A figure, or its ratio to that of another in the same round."""

    item: str
    label: str
    figure: Figure
    unit: str
    against: Figure | None = None
    target: float | None = None
    stretch: float | None = None
    more_is_better: bool = True
