"""Pages through a table along one of its indexes, from the newest end, in bounded steps.

A way is one or more ranges of an index whose order ends with the identity. Conditions that the
ranges do not cover are checked row by row along the way, for a bounded number of rows per page. So
no page reads the whole table, however few rows match.
"""

# Statements are built from constants of the modules that walk.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dashboard.asking import FIRST_TIME, LAST_TIME, MAX_COUNTER, Unclear, counter_in, time_in
from dashboard.figures import Identity

LOOKED = 20_000
"""The most rows examined for one page or one count if rows must be filtered."""

Values = Sequence[object]


@dataclass(frozen=True, slots=True)
class Way:
    """``ranges`` of an ``index``, each in SQL with its values; ``order`` is the index's columns."""

    table: str
    index: str
    ranges: tuple[tuple[str, Values], ...]
    order: tuple[str, ...]

    def inner(self, hit: tuple[str, Values], limit: int, offset: int = 0) -> tuple[str, list[Any]]:
        """Return SQL for the keys along the way, each with whether it meets ``hit``."""
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
    """The rows of one page. ``more`` is the next page's ``before``; None if there is none.

    ``looked_to`` is the identity at which the scan stopped before the page was full.
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

    ``kinds`` are conditions on the index's leading column, each of which makes a range.
    """
    where = f"{column} BETWEEN %s AND %s"
    values: list[object] = [sql_time(since or FIRST_TIME), sql_time(until or LAST_TIME)]
    if before:
        upto, client, _, counter = _position(before)
        if upto is None:
            raise Unclear("This is not one of the page's addresses.")
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

    ``columns`` are qualified by the table; ``hit`` is the condition on rows along the way, if any.
    ``only`` is a condition that nearly all rows meet, checked only for rows that would be shown.
    """
    keys = ", ".join(f"looked.{name} AS key_{name}" for name in way.order)
    # If most rows match, a short scan fills the page.
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
    # Less than a page: either the way has ended, or the scan has reached its limit.
    for key in _last_of(cursor, way, limit):
        return Walked(shown, _more(key), (key[-2], int(key[-1])))
    return Walked(shown, None, None)


def count(cursor: Any, way: Way, hit: tuple[str, Values]) -> tuple[int, str | None]:
    """Return how many of the next LOOKED rows match, and the next ``before``; None at the end."""
    inner, values = way.inner((hit[0] or "1 = 1", hit[1]), LOOKED)
    cursor.execute(f"SELECT COALESCE(SUM(hit), 0) FROM ({inner}) AS looked", values)
    [[hits]] = cursor.fetchall()
    for key in _last_of(cursor, way, LOOKED):
        return int(hits), _more(key)
    return int(hits), None


def _last_of(cursor: Any, way: Way, rows: int) -> Sequence[tuple[Any, ...]]:
    """Return the key of the last of so many rows along the way; nothing if there are fewer."""
    inner, values = way.inner(("1 = 1", ()), 1, rows - 1)
    cursor.execute(f"SELECT {', '.join(way.order)} FROM ({inner}) AS last_key", values)
    return list(cursor.fetchall())


def iso(time: datetime) -> str:
    """Return a time in UTC, as written in an address."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat()


def sql_time(time: datetime) -> datetime:
    """Return a time as the database stores it: UTC without a time zone."""
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
