"""Pages of a table along one of its indexes, from the newest end, in bounded steps.

A way is one or more ranges of an index, whose order ends with the identity. What the ranges do not
narrow down is sifted: each row on the way is looked at, a bounded number for each page. So no page
reads the whole table, however little matches.
"""

# Statements are put together of constants of the modules that walk.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dashboard.asking import MAX_COUNTER, Unclear, counter_in, time_in
from dashboard.figures import Identity

LOOKED = 20_000
"""Rows that are looked at for one page, or one count, when some must be sifted out."""

_FIRST = datetime(1000, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)

Values = Sequence[object]


@dataclass(frozen=True, slots=True)
class Way:
    """``ranges`` of an ``index``, each in SQL with its values; ``order`` are its columns."""

    table: str
    index: str
    ranges: tuple[tuple[str, Values], ...]
    order: tuple[str, ...]

    def inner(self, hit: tuple[str, Values], limit: int, offset: int = 0) -> tuple[str, list[Any]]:
        """Return SQL for the keys along the way, each with whether it is a ``hit``."""
        columns = ", ".join(self.order)
        descending = _descending(self.order)
        values: list[Any] = []
        parts = []
        alone = len(self.ranges) == 1
        for where, given in self.ranges:
            parts.append(
                f"SELECT {columns}, {hit[0]} AS hit FROM {self.table} FORCE INDEX ({self.index})"
                f" WHERE {where} ORDER BY {descending} LIMIT %s OFFSET %s"
            )
            values += [*hit[1], *given, *((limit, offset) if alone else (limit + offset, 0))]
        if alone:
            return parts[0], values
        joined = " UNION ALL ".join(f"({part})" for part in parts)
        statement = f"SELECT * FROM ({joined}) AS ranges ORDER BY {descending} LIMIT %s OFFSET %s"
        return statement, [*values, limit, offset]


@dataclass(frozen=True, slots=True)
class Walked:
    """Rows of one page. ``more`` leads on: the value of ``before``; None: that was all.

    ``looked_to`` is the identity at which a page stopped that is not full.
    """

    rows: list[tuple[Any, ...]]
    more: str | None
    looked_to: Identity | None


def by_client(table: str, client: str, first: int | None, last: int | None, before: str) -> Way:
    """Return the way along a client's counters, from the highest down. Raises Unclear."""
    highest = MAX_COUNTER if last is None else last
    if before:
        _, _, _, counter = _position(before)
        highest = min(highest, counter - 1)
    where = "client = %s AND counter BETWEEN %s AND %s"
    return Way(table, "PRIMARY", ((where, (client, first or 0, highest)),), ("client", "counter"))


def by_time(
    table: str,
    index: str,
    column: str,
    since: datetime | None,
    until: datetime | None,
    before: str,
    kinds: Sequence[str] = ("",),
) -> Way:
    """Return the way along a time, from the latest back. Raises Unclear.

    ``kinds`` are conditions that the index begins with: a range for each.
    """
    where = f"{column} BETWEEN %s AND %s"
    values: list[object] = [sql_time(since or _FIRST), sql_time(until or _LAST)]
    if before:
        upto, client, _, counter = _position(before)
        if upto is None:
            raise Unclear("This address is not one of ours.")
        where += f" AND ({column} < %s OR client < %s OR (client = %s AND counter < %s))"
        values = [values[0], sql_time(upto), sql_time(upto), client, client, counter]
    ranges = tuple((f"{kind} AND {where}" if kind else where, values) for kind in kinds)
    return Way(table, index, ranges, (column, "client", "counter"))


def walk(
    cursor: Any,
    way: Way,
    columns: str,
    hit: tuple[str, Values],
    size: int,
    *,
    only: str = "",
) -> Walked:
    """Return a page of ``size`` rows.

    ``columns`` name the table with each; ``hit`` is what a row on the way must meet, if anything.
    ``only`` is a condition that nearly all rows meet, looked at for those that are shown.
    """
    keys = ", ".join(f"looked.{name} AS key_{name}" for name in way.order)
    named = ", ".join(way.order)
    # Where most rows match, a page is full soon.
    for limit in (4 * size, LOOKED) if hit[0] else (2 * size,):
        inner, values = way.inner((hit[0] or "1 = 1", hit[1]), limit)
        cursor.execute(
            f"SELECT STRAIGHT_JOIN {keys}, {columns} FROM ({inner}) AS looked JOIN {way.table}"
            f" ON {way.table}.client = looked.client AND {way.table}.counter = looked.counter"
            f" WHERE looked.hit{only and f' AND {only}'}"
            f" ORDER BY {_descending(way.order, 'looked.')} LIMIT %s",
            (*values, size + 1),
        )
        found = list(cursor.fetchall())
        if len(found) > size:
            break
    wide = len(way.order)
    shown = [row[wide:] for row in found[:size]]
    if len(found) > size:
        return Walked(shown, _more(found[size - 1][:wide]), None)
    # Fewer than a page: because that was all, or because it stopped looking.
    inner, values = way.inner(("1 = 1", ()), 1, limit - 1)
    cursor.execute(f"SELECT {named} FROM ({inner}) AS last_key", values)
    for key in cursor.fetchall():
        return Walked(shown, _more(key), (key[-2], int(key[-1])))
    return Walked(shown, None, None)


def count(cursor: Any, way: Way, hit: tuple[str, Values]) -> tuple[int, bool]:
    """Return how many there are along the first LOOKED rows, and whether that is all."""
    inner, values = way.inner((hit[0] or "1 = 1", hit[1]), LOOKED)
    cursor.execute(f"SELECT COUNT(*), COALESCE(SUM(hit), 0) FROM ({inner}) AS looked", values)
    [[looked, hits]] = cursor.fetchall()
    return int(hits), looked < LOOKED


def iso(time: datetime) -> str:
    """Return a time as an address holds it, in UTC."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat()


def sql_time(time: datetime) -> datetime:
    """Return a time as the database holds it."""
    return time.astimezone(UTC).replace(tzinfo=None)


def _more(key: tuple[Any, ...]) -> str:
    *time, client, counter = key
    at = iso(time[0].replace(tzinfo=UTC)) if time else ""
    return f"{at} {client}/{counter}".strip()


def _position(before: str) -> tuple[datetime | None, str, str, int]:
    at, _, identity = before.rpartition(" ")
    client, slash, counter = identity.rpartition("/")
    return time_in(at), client, slash, counter_in(counter) or 0


def _descending(columns: Sequence[str], of: str = "") -> str:
    return ", ".join(f"{of}{column} DESC" for column in columns)
