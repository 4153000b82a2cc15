"""The lines of the report: a figure, the one beside it, and the target."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.bench import (
    account,
    crowd,
    doors,
    large,
    latency,
    native,
    page,
    relaying,
    sending,
    serving,
)
from lab.bench.contender import Contender, Figures

_DRAINED = 60_000
"""Requests for a contender that drains a backlog."""

_CLIENTS = 100_000
"""Clients that send one request each."""

CONTENDERS: dict[str, Contender] = {
    "textbook": serving.textbook,
    "strict": serving.ours(1, 5000),
    "drain 200": serving.ours(200, _DRAINED),
    "drain 1000": serving.ours(1000, _DRAINED),
    "drain 200, full table": serving.full_table(200, _DRAINED),
    "drain 200, 4 workers": serving.ours(200, _DRAINED, workers=4),
    "valid, strict": serving.among_hostile(1, 3000, share=0),
    "valid among hostile, strict": serving.among_hostile(1, 3000, share=1),
    "valid, drain": serving.among_hostile(200, 10_000, share=0),
    "valid among hostile, drain": serving.among_hostile(200, 10_000, share=1),
    "textbook handler": serving.textbook_handler,
    "handler, strict": serving.handler(1, 5000),
    "handler, drain 200": serving.handler(200, 30_000),
    "latency": latency.latency,
    "C, strict": native.serving(1, 5000),
    "C, drain": native.serving(1000, _DRAINED),
    "drain 500, 16 KiB": serving.ours(500, 10_000, size=16_384),
    "C, drain 16 KiB": native.serving(500, 10_000, size=16_384),
    "C, publisher": native.publisher,
    "textbook publisher": sending.textbook_publisher,
    "producer": sending.producer,
    "textbook view": doors.textbook_view,
    "door": doors.door,
    "textbook relay": relaying.textbook_relay,
    "relay": relaying.relay,
    "relay latency": relaying.relay_latency,
    "start": sending.start,
    "backlog": large.backlog,
    "audit": large.audit,
    "many clients": account.clients,
    "gaps": account.gaps,
    "strict, pruned": account.pruned(1, 5000),
    "drain 200, pruned": account.pruned(200, _DRAINED),
    "strict, many clients": crowd.clients(1, 5000),
    "drain 200, many clients": crowd.clients(200, _CLIENTS),
    "fifty workers": crowd.workers,
    "page": page.page,
    "watched": page.watched,
}

ONCE = frozenset({"backlog", "audit", "many clients", "gaps", "fifty workers", "page", "watched"})
"""Items that are measured in the first round only, since each takes minutes."""

Figure = tuple[str, str]
"""A contender and the name of its figure."""

_TEXTBOOK: Figure = ("textbook", "rows_per_s")
_TEXTBOOK_HANDLER: Figure = ("textbook handler", "rows_per_s")


@dataclass(frozen=True, slots=True)
class Line:
    """A figure, and its ratio to another one of the same round.

    ``target`` and ``stretch`` apply to the ratio, or to the figure if there is no other.
    """

    item: str
    label: str
    figure: Figure
    unit: str
    against: Figure | None = None
    target: float | None = None
    stretch: float | None = None
    less_is_better: bool = False


LINES = (
    Line("strict", "strict, prefetch 1", ("strict", "rows_per_s"), "rows/s", _TEXTBOOK, 1.2, 1.35),
    Line("strict", "worker CPU per 1,000 requests, strict", ("strict", "cpu_per_1000"), "s",
         ("textbook", "cpu_per_1000"), 0.75, 0.55, less_is_better=True),
    Line("latency", "publish to commit when idle, strict", ("latency", "strict_ms"), "ms",
         ("latency", "textbook_ms"), 0.85, 0.7, less_is_better=True),
    Line("latency", "the same, prefetch 500, to strict", ("latency", "drain_ms"), "ms",
         ("latency", "strict_ms"), 1.05, 1.0, less_is_better=True),
    Line("drain", "drain, prefetch 200", ("drain 200", "rows_per_s"), "rows/s",
         _TEXTBOOK, 15, 25),
    Line("drain", "drain, prefetch 1000", ("drain 1000", "rows_per_s"), "rows/s",
         _TEXTBOOK, 15, 25),
    Line("drain", "worker memory, prefetch 1000", ("drain 1000", "peak_memory"), "MiB",
         None, 60, 45, less_is_better=True),
    Line("table", "drain with a million rows there, to none",
         ("drain 200, full table", "rows_per_s"), "rows/s", ("drain 200", "rows_per_s"), 0.9, 1),
    Line("workers", "drain with 4 workers, to 2", ("drain 200, 4 workers", "rows_per_s"), "rows/s",
         ("drain 200", "rows_per_s")),
    Line("workers", "cores used meanwhile: 4 workers", ("drain 200, 4 workers", "workers_cores"),
         "cores", ("drain 200", "workers_cores")),
    Line("workers", "- by the broker", ("drain 200, 4 workers", "broker_cores"), "cores",
         ("drain 200", "broker_cores")),
    Line("workers", "- by the database", ("drain 200, 4 workers", "database_cores"), "cores",
         ("drain 200", "database_cores")),
    Line("handler", "with a handler, strict", ("handler, strict", "rows_per_s"), "rows/s",
         _TEXTBOOK_HANDLER, 1.0),
    Line("handler", "worker CPU per 1,000 requests, strict", ("handler, strict", "cpu_per_1000"),
         "s", ("textbook handler", "cpu_per_1000"), less_is_better=True),
    Line("handler", "with a handler, prefetch 200", ("handler, drain 200", "rows_per_s"), "rows/s",
         _TEXTBOOK_HANDLER, 10),
    Line("handler", "worker CPU per 1,000 requests, prefetch 200",
         ("handler, drain 200", "cpu_per_1000"), "s",
         ("textbook handler", "cpu_per_1000"), less_is_better=True),
    Line("native", "strict, to the same in C", ("strict", "rows_per_s"), "rows/s",
         ("C, strict", "rows_per_s")),
    Line("native", "worker CPU per 1,000 requests, strict", ("strict", "cpu_per_1000"), "s",
         ("C, strict", "cpu_per_1000"), less_is_better=True),
    Line("native", "drain, prefetch 1000, to the same in C", ("drain 1000", "rows_per_s"), "rows/s",
         ("C, drain", "rows_per_s")),
    Line("native", "messages of 16 KiB, prefetch 500, to the same in C",
         ("drain 500, 16 KiB", "rows_per_s"), "rows/s", ("C, drain 16 KiB", "rows_per_s")),
    Line("native", "publish to commit when idle, to C", ("latency", "strict_ms"), "ms",
         ("latency", "native_ms"), less_is_better=True),
    Line("malformed", "valid ones among as many hostile ones, to alone, strict",
         ("valid among hostile, strict", "rows_per_s"), "rows/s",
         ("valid, strict", "rows_per_s"), 0.5),
    Line("malformed", "the same, prefetch 200",
         ("valid among hostile, drain", "rows_per_s"), "rows/s",
         ("valid, drain", "rows_per_s"), 0.5),
    Line("producer", "producer, quantum 0", ("producer", "requests_per_s"), "requests/s",
         ("textbook publisher", "requests_per_s"), 12, 18),
    Line("producer", "the same, to C that keeps nothing",
         ("producer", "requests_per_s"), "requests/s", ("C, publisher", "requests_per_s")),
    Line("producer", "its CPU per 1,000, with its start", ("producer", "cpu_per_1000"), "s",
         ("textbook publisher", "cpu_per_1000"), less_is_better=True),
    Line("door", "PUTs to producer serve, 64 connections", ("door", "requests_per_s"), "PUTs/s",
         None, 3000),
    Line("door", "the same, to a textbook view", ("door", "requests_per_s"), "PUTs/s",
         ("textbook view", "requests_per_s")),
    Line("door", "from PUT to 201 meanwhile, 99 % within", ("door", "p99_ms"), "ms",
         ("textbook view", "p99_ms"), less_is_better=True),
    Line("door", "CPU per 1,000 PUTs", ("door", "cpu_per_1000"), "s",
         ("textbook view", "cpu_per_1000"), less_is_better=True),
    Line("door", "memory of producer serve", ("door", "peak_memory"), "MiB",
         ("textbook view", "peak_memory"), less_is_better=True),
    Line("relay", "rows of the outbox that producer relay publishes", ("relay", "rows_per_s"),
         "rows/s", None, 10_000),
    Line("relay", "the same, to a textbook poller", ("relay", "rows_per_s"), "rows/s",
         ("textbook relay", "rows_per_s")),
    Line("relay", "the same while deleted rows cannot be purged, to else",
         ("relay", "held_rows_per_s"), "rows/s", ("relay", "rows_per_s")),
    Line("relay", "CPU of the relay per 1,000 rows", ("relay", "cpu_per_1000"), "s",
         ("textbook relay", "cpu_per_1000"), less_is_better=True),
    Line("relay", "CPU of the database per 1,000 rows, purge held, to else",
         ("relay", "held_database_cpu_per_1000"), "s", ("relay", "database_cpu_per_1000"),
         less_is_better=True),
    Line("relay", "from COMMIT to the row when idle", ("relay latency", "commit_to_row_ms"),
         "ms", None, 100, less_is_better=True),
    Line("relay", "memory of producer relay", ("relay", "peak_memory"), "MiB",
         None, 60, less_is_better=True),
    Line("start", "producer --help", ("start", "help_ms"), "ms",
         None, 150, 100, less_is_better=True),
    Line("backlog", "memory of send --stdin, 1,000,000 lines", ("backlog", "send_peak_memory"),
         "MiB", None, 60, 45, less_is_better=True),
    Line("backlog", "memory of flush, 500,000 waiting", ("backlog", "flush_peak_memory"),
         "MiB", None, 80, less_is_better=True),
    Line("backlog", "memory of a worker, 1,500,000 queued", ("backlog", "worker_peak_memory"),
         "MiB", None, 80, less_is_better=True),
    Line("backlog", "drain, the last tenth of 1,500,000, to the first",
         ("backlog", "last_tenth_per_s"), "rows/s", ("backlog", "first_tenth_per_s"), 0.9),
    Line("audit", "worker audit, 10,000,000 rows", ("audit", "seconds"), "s",
         None, 2, less_is_better=True),
    Line("account", "worker audit, 100,000 clients of ten, counted", ("many clients", "seconds"),
         "s", None, 0.5, less_is_better=True),
    Line("account", "- its memory", ("many clients", "peak_memory"), "MiB",
         None, 60, less_is_better=True),
    Line("account", "- with nothing counted", ("many clients", "uncounted_seconds"), "s"),
    Line("account", "the audit of a million rows with one gap, to none", ("gaps", "one_seconds"),
         "s", ("gaps", "no_seconds"), 2, less_is_better=True),
    Line("account", "- with 10,000 gaps", ("gaps", "many_seconds"),
         "s", ("gaps", "no_seconds"), 2, less_is_better=True),
    Line("account", "strict, once rows were removed, to before", ("strict, pruned", "rows_per_s"),
         "rows/s", ("strict", "rows_per_s"), 0.95),
    Line("account", "drain, prefetch 200, once rows were removed, to before",
         ("drain 200, pruned", "rows_per_s"), "rows/s", ("drain 200", "rows_per_s"), 0.95),
    Line("account", "strict, a client for each request, to one",
         ("strict, many clients", "rows_per_s"), "rows/s", ("strict", "rows_per_s"), 0.9),
    Line("account", "drain, prefetch 200, 100,000 clients, to one",
         ("drain 200, many clients", "rows_per_s"), "rows/s", ("drain 200", "rows_per_s"), 0.9),
    Line("account", "- worker memory", ("drain 200, many clients", "peak_memory"), "MiB",
         ("drain 200", "peak_memory"), 1.1, less_is_better=True),
    Line("account", "statements a request, fifty strict workers on one client",
         ("fifty workers", "statements"), "", None, 1.1, less_is_better=True),
    Line("page", "/api/state, 10,000,000 rows, 99 % within", ("page", "state_p99_ms"), "ms",
         None, 50, less_is_better=True),
    Line("page", "/api/requests/CLIENT/COUNTER, 99 % within", ("page", "request_p99_ms"), "ms",
         None, 50, less_is_better=True),
    Line("page", "search: a client's requests", ("page", "a_clients_ms"), "ms",
         None, 100, less_is_better=True),
    Line("page", "search: the latest", ("page", "latest_ms"), "ms",
         None, 100, less_is_better=True),
    Line("page", "search: a text that no message has", ("page", "text_ms"), "ms",
         None, 1000, less_is_better=True),
    Line("page", "search: a replica that there is not, in a time", ("page", "replica_since_ms"),
         "ms", None, 1000, less_is_better=True),
    Line("page", "the latest of 1,000,000 failures", ("page", "failures_ms"), "ms",
         None, 300, less_is_better=True),
    Line("page", "failures of a reason that none has", ("page", "failures_of_a_reason_ms"), "ms",
         None, 1000, less_is_better=True),
    Line("page", "statements a second, 100 open pages, to one", ("page", "statements_per_s_100"),
         "/s", ("page", "statements_per_s_1"), 1.05, less_is_better=True),
    Line("page", "strict workers with the page open, to frozen", ("watched", "open_rows_per_s"),
         "rows/s", ("watched", "frozen_rows_per_s"), 0.97),
)  # fmt: skip

ITEMS = tuple(dict.fromkeys(line.item for line in LINES))


def contenders(lines: Sequence[Line]) -> list[str]:
    """Return the names of the contenders that these lines need."""
    needed = {line.figure[0] for line in lines}
    needed |= {line.against[0] for line in lines if line.against}
    return [name for name in CONTENDERS if name in needed]


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of several rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Told:
    """A line with its measured values."""

    line: Line
    figure: Spread
    ratio: Spread | None

    @property
    def reached(self) -> str:
        """``stretch``, ``target`` or ``missed``; empty without a target, or without its ratio."""
        line = self.line
        if line.against and self.ratio is None:
            return ""
        value = (self.ratio or self.figure).median
        for name, goal in (("stretch", line.stretch), ("target", line.target)):
            if goal is not None and (value <= goal if line.less_is_better else value >= goal):
                return name
        return "" if line.target is None else "missed"


def tell(line: Line, rounds: Sequence[Mapping[str, Figures]]) -> Told | None:
    """Return a line with the figures of all rounds, each by contender. Pure.

    A round in which the other figure is 0, such as CPU below the clock's tick, has no ratio.
    None if no round has all figures that the line needs, since a contender was left out.
    """
    needed = [line.figure, line.against or line.figure]
    measured = [each for each in rounds if all(name in each.get(who, {}) for who, name in needed)]
    if not measured:
        return None
    figures = [each[line.figure[0]][line.figure[1]] for each in measured]
    if line.against is None:
        return Told(line, _spread(figures), None)
    contender, name = line.against
    others = [each[contender][name] for each in measured]
    ratios = [figure / other for figure, other in zip(figures, others, strict=True) if other]
    return Told(line, _spread(figures), _spread(ratios) if ratios else None)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))
