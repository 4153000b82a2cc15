"""Walks a client's rows in bounded steps: counts them, by replica, and finds the gaps.

Each step is a range of the primary key between constants. MariaDB does not use a range that depends
on another table's row: it would read all of the client's rows for each.
"""

# Statements are built from this module's own constants and from escaped values.
# ruff: noqa: S608

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from turnwise.database import Connection, fetch

STEP = 50_000
"""The most rows that one statement reads, which takes some tens of milliseconds."""

TOGETHER = 100
"""The most ranges in one statement: the optimizer's work grows faster than their number."""

SHOWN_GAPS = 10

Gap = tuple[int, int]
Span = tuple[str, int, int]
"""A client, and a range of counters: above the first, up to and including the second."""

_STEP_END = (
    "SELECT counter FROM requests WHERE client = %s AND counter BETWEEN %s AND %s"
    " ORDER BY counter LIMIT 1 OFFSET %s"
)
_BY_REPLICA = "SELECT client, served_by, COUNT(*) FROM requests WHERE {where} GROUP BY 1, 2"
_DISTINCT = (
    "SELECT client, COUNT(DISTINCT counter), MIN(counter), MAX(counter) FROM requests"
    " WHERE {where} GROUP BY client"
)
_BETWEEN = """
    SELECT client, previous + 1, counter - 1 FROM (
        SELECT client, counter, LAG(counter) OVER (PARTITION BY client ORDER BY counter) AS previous
        FROM requests WHERE {where}
    ) AS pairs WHERE counter > previous + 1 ORDER BY client, counter
"""


@dataclass(slots=True)
class Tail:
    """Rows of one client: their number, the number of distinct counters, and the gaps."""

    rows: int = 0
    distinct: int = 0
    shares: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)

    def add(self, other: Tail, *, every_gap: bool = False) -> None:
        """Add the rows that follow. Keeps only the first few gaps, unless ``every_gap``."""
        self.rows += other.rows
        self.distinct += other.distinct
        self.shares.update(other.shares)
        if every_gap or len(self.gaps) <= SHOWN_GAPS:
            self.gaps += other.gaps if every_gap else other.gaps[: SHOWN_GAPS + 1]


def walk(connection: Connection, client: str, first: int, last: int) -> Iterator[Tail]:
    """Yield the rows from ``first`` to ``last``, step by step, each with all of its gaps."""
    while first <= last:
        ends = fetch(connection, _STEP_END, client, first, last, STEP - 1)
        upto = int(ends[0][0]) if ends else last
        yield _count(connection, [(client, first - 1, upto)])[client]
        first = upto + 1


def tails(
    connection: Connection,
    spans: Sequence[Span],
    progress: Callable[[int], None] | None = None,
    *,
    every_gap: bool = False,
) -> dict[str, Tail]:
    """Return the rows of each span; small spans share statements.

    Includes at least the first few gaps, and all of them if ``every_gap``.
    """
    found: dict[str, Tail] = {}
    together: list[Span] = []
    room = STEP
    for number, span in enumerate(spans):
        client, after, last = span
        size = last - after
        if size > STEP:
            tail = found[client] = Tail()
            for piece in walk(connection, client, after + 1, last):
                tail.add(piece, every_gap=every_gap)
                if progress:
                    progress(number)
            continue
        if together and (len(together) == TOGETHER or size > room):
            found |= _count(connection, together)
            together, room = [], STEP
        together.append(span)
        room -= size
        if progress:
            progress(number)
    if together:
        found |= _count(connection, together)
    return found


def filled(connection: Connection, client: str, gaps: Sequence[Gap]) -> set[Gap]:
    """Return the gaps that contain a row by now."""
    closed: set[Gap] = set()
    single = [first for first, last in gaps if first == last]
    for begin in range(0, len(single), 10 * TOGETHER):
        counters = single[begin : begin + 10 * TOGETHER]
        statement = "SELECT counter FROM requests WHERE client = %s AND counter IN %s"
        rows = fetch(connection, statement, client, counters)
        closed |= {(int(counter), int(counter)) for (counter,) in rows}
    wide = [gap for gap in gaps if gap[0] != gap[1]]
    for begin in range(0, len(wide), TOGETHER):
        closed |= _filled_wide(connection, client, wide[begin : begin + TOGETHER])
    return closed


def _filled_wide(connection: Connection, client: str, gaps: Sequence[Gap]) -> set[Gap]:
    """Bisect the gaps; usually none is filled, which takes one statement."""
    ranges = where(connection, [(client, first - 1, last) for first, last in gaps])
    if not fetch(connection, f"SELECT 1 FROM requests WHERE {ranges} LIMIT 1"):
        return set()
    if len(gaps) == 1:
        return set(gaps)
    half = len(gaps) // 2
    return _filled_wide(connection, client, gaps[:half]) | _filled_wide(
        connection, client, gaps[half:]
    )


def _count(connection: Connection, spans: Sequence[Span]) -> dict[str, Tail]:
    """Count each span, with all of its gaps, in a few statements together."""
    ranges = where(connection, spans)
    found = {client: Tail() for client, _, _ in spans}
    for client, name, rows in fetch(connection, _BY_REPLICA.format(where=ranges)):
        found[client].shares[name] += int(rows)
        found[client].rows += int(rows)
    ends: dict[str, Gap] = {}
    for client, distinct, first, last in fetch(connection, _DISTINCT.format(where=ranges)):
        found[client].distinct = int(distinct)
        ends[client] = (int(first), int(last))
    # Gaps before and after the rows follow from their ends; those in between need an ordered scan.
    torn = [
        (client, ends[client][0] - 1, ends[client][1])
        for client, _, _ in spans
        if client in ends and found[client].distinct <= ends[client][1] - ends[client][0]
    ]
    within: dict[str, list[Gap]] = {}
    if torn:
        statement = _BETWEEN.format(where=where(connection, torn))
        for client, first, last in fetch(connection, statement):
            within.setdefault(client, []).append((int(first), int(last)))
    for client, after, upto in spans:
        first, last = ends.get(client, (upto + 1, upto))
        before = [(after + 1, first - 1)] if first > after + 1 else []
        behind = [(last + 1, upto)] if last < upto else []
        found[client].gaps = [*before, *within.get(client, []), *behind]
    return found


def where(connection: Connection, spans: Sequence[Span]) -> str:
    """Return the SQL condition that a row is in one of the spans."""
    return " OR ".join(
        f"(client = {connection.escape(client)} AND counter BETWEEN {after + 1:d} AND {last:d})"
        for client, after, last in spans
    )


def joined(gaps: list[Gap]) -> list[Gap]:
    """Join gaps that were split where one counting step ended. Pure."""
    joined: list[Gap] = []
    for first, last in gaps:
        if joined and joined[-1][1] == first - 1:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def without(gaps: list[Gap], counters: array[int]) -> list[Gap]:
    """Remove ordered counters from gaps. Pure."""
    if not counters:
        return gaps
    left: list[Gap] = []
    for begin, last in gaps:
        first = begin
        for counter in counters[bisect_left(counters, begin) : bisect_right(counters, last)]:
            if counter > first:
                left.append((first, counter - 1))
            first = counter + 1
        if first <= last:
            left.append((first, last))
    return left
