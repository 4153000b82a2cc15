"""Removes old rows in small steps, and stores for each client up to where they are removed.

A line is committed before any row below it is deleted; worker/lines.py explains why that suffices
to recognise an old repeat for ever. A missing request stays in its gap even below a line, so it is
still served when it arrives. Two prunes may run at once, and each may be killed at any instant.
"""

# Statements are built from this module's own constants and from escaped values.
# ruff: noqa: S608

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from turnwise.account import bound_statements
from turnwise.database import Connection, fetch, interrupts
from turnwise.walk import TOGETHER
from worker.counting import count_fully, fill, gaps_between, lock

PAGE = 2_000
"""Rows read at a time."""

MOST_COUNTED = 1_000_000
"""The most rows that are counted in advance."""

STEP = 500
"""Rows deleted in one transaction, which takes some milliseconds."""

_LOCKS_LOST = 20
"""How often in a row a step may lose its locks."""

A = TypeVar("A")
T = TypeVar("T")

_CUTOFF = "SELECT UTC_TIMESTAMP(6) - INTERVAL %s MICROSECOND"
_OLD = (
    "SELECT client, counter, served_at FROM requests FORCE INDEX (served)"
    " WHERE served_at < %s AND (served_at, client, counter) > (%s, %s, %s) AND served_at >= %s"
    " ORDER BY served_at, client, counter LIMIT %s"
)
# Bounded, since it is only for the progress and the table may be large.
_HOW_MANY = (
    "SELECT COUNT(*) FROM (SELECT 1 FROM requests FORCE INDEX (served) WHERE served_at < %s"
    f" LIMIT {MOST_COUNTED}) AS some_of_them"
)
_MOVE_LINES = (
    "INSERT INTO pruned (client, through) SELECT * FROM ({rows}) AS new"
    " ON DUPLICATE KEY UPDATE through = GREATEST(pruned.through, new.b)"
)
_LINES = "SELECT client, through FROM pruned WHERE client IN %s"
_NEXT_EPOCH = "UPDATE prune_epoch SET epoch = epoch + 1"
# Somebody has deleted the row: microseconds are ahead of any epoch that a worker remembers.
_NEW_EPOCH = "INSERT INTO prune_epoch VALUES (1000000 * UNIX_TIMESTAMP(UTC_TIMESTAMP(6)))"
_THERE = "SELECT client, counter, served_by FROM requests WHERE {rows} FOR UPDATE"
_DELETE = "DELETE FROM requests WHERE {rows}"
_COUNT_REMOVED = "UPDATE pruned SET removed = removed + %s WHERE client = %s"
_COUNT_SHARE = (
    "INSERT INTO pruned_shares (client, served_by, removed) VALUES (%s, %s, %s)"
    " ON DUPLICATE KEY UPDATE removed = removed + %s"
)

Rows = dict[str, list[int]]
"""Counters by client."""


@dataclass(slots=True)
class Pruned:
    """What a prune has done so far."""

    removed: int = 0
    kept: int = 0
    """Old rows left in place because the account has not counted them yet."""


def prune(
    connection: Connection,
    older_than: timedelta,
    progress: Callable[[Pruned], None] = lambda _: None,
) -> Pruned:
    """Remove the rows served longer ago than ``older_than``, by the database's clock.

    Only rows that the account has counted are removed. Calls ``progress`` after each step. Raises
    pymysql.Error, after which it may simply be called again.
    """
    bound_statements(connection)
    pruned = Pruned()
    for page in _pages(connection, _cutoff(connection, older_than)):
        clients = sorted(page)
        for begin in range(0, len(clients), TOGETHER):
            part = {client: page[client] for client in clients[begin : begin + TOGETHER]}
            _persisting(connection, count_fully, list(part))
            covered = _persisting(connection, draw_lines, part)
            pruned.kept += _size(part) - _size(covered)
            for step in _steps(covered):
                pruned.removed += _persisting(connection, delete, step)
                progress(pruned)
    return pruned


def how_many(connection: Connection, older_than: timedelta) -> int:
    """Return how many rows are that old, at most MOST_COUNTED."""
    return int(fetch(connection, _HOW_MANY, _cutoff(connection, older_than))[0][0])


def draw_lines(connection: Connection, rows: Rows) -> Rows:
    """Move the lines so that they cover these rows; return the rows they cover.

    Each row must be committed already. A row that is not counted stays uncovered.
    """
    through = lock(connection, sorted(rows))
    covered: Rows = {}
    for client, upto in through.items():
        counted = [counter for counter in rows[client] if counter <= upto]
        if counted:
            # Afterwards none of these rows is in a gap.
            for gaps in gaps_between(connection, client, min(counted), max(counted)):
                fill(connection, client, gaps)
            covered[client] = counted
    lines = dict(fetch(connection, _LINES, sorted(covered))) if covered else {}
    moved = {c: max(counters) for c, counters in covered.items() if max(counters) > lines.get(c, 0)}
    if moved:
        selects = " UNION ALL ".join(
            f"SELECT {connection.escape(client)} AS a, {line:d} AS b"
            for client, line in moved.items()
        )
        connection.query(_MOVE_LINES.format(rows=selects))
        # Last, since it blocks all writes until the commit.
        if not connection.query(_NEXT_EPOCH):
            connection.query(_NEW_EPOCH)
    connection.commit()
    return covered


def delete(connection: Connection, rows: Rows) -> int:
    """Delete rows that a line covers, in one transaction; return how many still existed."""
    where = " OR ".join(
        f"(client = {connection.escape(client)} AND counter IN ({','.join(map(str, counters))}))"
        for client, counters in sorted(rows.items())
    )
    connection.begin()
    there = fetch(connection, _THERE.format(rows=where))
    shares = Counter((client, name) for client, _, name in there)
    connection.query(_DELETE.format(rows=where))
    with connection.cursor() as cursor:
        for client, count in sorted(Counter(client for client, _, _ in there).items()):
            cursor.execute(_COUNT_REMOVED, (count, client))
        for (client, name), count in sorted(shares.items()):
            cursor.execute(_COUNT_SHARE, (client, name, count, count))
    connection.commit()
    return len(there)


def _persisting(connection: Connection, work: Callable[[Connection, A], T], about: A) -> T:
    """Retry a step that lost its locks to a worker or another prune, and was rolled back."""
    for _ in range(_LOCKS_LOST):
        try:
            return work(connection, about)
        except Exception as error:
            if not interrupts(error) or not connection.open:
                raise
            connection.rollback()
    return work(connection, about)


def _cutoff(connection: Connection, older_than: timedelta) -> datetime:
    cutoff: datetime = fetch(connection, _CUTOFF, older_than // timedelta(microseconds=1))[0][0]
    return cutoff


def _pages(connection: Connection, cutoff: datetime) -> Iterator[Rows]:
    """Yield old rows in pages, oldest first."""
    last: tuple[datetime, str, int] = (datetime(1000, 1, 1), "", 0)  # noqa: DTZ001 - UTC all of it
    while rows := fetch(connection, _OLD, cutoff, *last, last[0], PAGE):
        page: Rows = {}
        for client, counter, _ in rows:
            page.setdefault(client, []).append(int(counter))
        yield page
        client, counter, served_at = rows[-1]
        last = (served_at, client, counter)


def _steps(rows: Rows) -> Iterator[Rows]:
    step: Rows = {}
    room = STEP
    for client, counters in rows.items():
        begin = 0
        while begin < len(counters):
            taken = counters[begin : begin + room]
            step[client] = taken
            begin += len(taken)
            room -= len(taken)
            if not room:
                yield step
                step, room = {}, STEP
    if step:
        yield step


def _size(rows: Rows) -> int:
    return sum(map(len, rows.values()))
