"""Which requests somebody looks for, and how they are found without reading the whole table.

There are two ways into the table: by client and counter, and by the time of serving. A search goes
along one of them, from its newest end, and looks at a bounded number of rows for each page. What
neither way narrows down, as a text in any message ever, is refused.
"""

# Statements are put together of this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from dashboard import rows
from dashboard.figures import Served

PAGE = 50
"""Requests on one page."""

LOOKED = 20_000
"""Rows that are looked at for one page when a text, a replica or the like must match."""

LONGEST_TEXT = 200

_MAX_COUNTER = 2**63 - 1
_FIELDS = ("client", "first", "last", "text", "replica", "since", "until")


class Unclear(ValueError):
    """A search that means nothing, or that would read the whole table; the text says why."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for. ``first`` and ``last`` are counters, ``since`` and ``until`` served at."""

    client: str = ""
    first: int | None = None
    last: int | None = None
    text: str = ""
    replica: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def by_client(self) -> bool:
        """Whether it goes along the client's counters; else along the time of serving."""
        return bool(self.client) and not (self.since or self.until)

    @property
    def sifts(self) -> bool:
        """Whether rows on the way must be looked at one by one."""
        if self.text or self.replica:
            return True
        return not self.by_client and bool(self.client or self.first or self.last)

    def address(self, **more: str) -> str:
        """Return it as the query part of an address."""
        told = {
            "client": self.client,
            "first": "" if self.first is None else str(self.first),
            "last": "" if self.last is None else str(self.last),
            "text": self.text,
            "replica": self.replica,
            "since": _iso(self.since),
            "until": _iso(self.until),
            **more,
        }
        return urlencode({name: value for name, value in told.items() if value})


@dataclass(frozen=True, slots=True)
class Page:
    """``more`` leads on (the value of ``before``), ``looked_to`` says how far a sifting went."""

    requests: list[Served]
    more: str | None
    looked_to: Served | None


def parse(form: Mapping[str, str]) -> Query:
    """Read a search as it stands in an address. Raises Unclear."""
    told = {name: form.get(name, "").strip() for name in _FIELDS}
    query = Query(
        client=name_in(told["client"], 64, "a client"),
        first=counter_in(told["first"]),
        last=counter_in(told["last"]),
        text=told["text"],
        replica=name_in(told["replica"], 255, "a replica"),
        since=time_in(told["since"]),
        until=time_in(told["until"]),
    )
    if len(query.text) > LONGEST_TEXT:
        raise Unclear(f"A text to look for has at most {LONGEST_TEXT} characters.")
    if (query.first or query.last) and not query.client:
        raise Unclear("Counters are counted for each client: name the client too.")
    if (query.text or query.replica) and not (query.client or query.since):
        raise Unclear(
            "This would read the whole table. Name the client, or since when to look, as well."
        )
    return query


def find(cursor: Any, query: Query, before: str) -> Page:
    """Return a page of what was found, newest first, after the one that led to ``before``."""
    way = _ByClient(query) if query.by_client else _ByTime(query)
    where, values = way.where(before)
    key = f"FROM requests FORCE INDEX ({way.index}) WHERE {where} ORDER BY {way.order}"
    limit = LOOKED if query.sifts else PAGE + 1
    hit, sifted = _sift(query, by_client=query.by_client)
    columns = rows.SERVED_PREVIEW.replace("client, counter", "requests.client, requests.counter")
    cursor.execute(
        f"SELECT STRAIGHT_JOIN {columns.replace('served_at', 'requests.served_at')}"
        f" FROM (SELECT client, counter, served_at, {hit} AS hit {key} LIMIT %s) AS looked"
        " JOIN requests ON requests.client = looked.client AND requests.counter = looked.counter"
        f" WHERE looked.hit ORDER BY {way.outer_order} LIMIT %s",
        (*sifted, *values, limit, PAGE + 1),
    )
    found = [rows.served(row) for row in cursor.fetchall()]
    if len(found) > PAGE:
        return Page(found[:PAGE], way.cursor(found[PAGE - 1]), None)
    if not query.sifts:
        return Page(found, None, None)
    # Fewer than a page: because that was all, or because it stopped looking.
    cursor.execute(f"SELECT {rows.SERVED_PREVIEW} {key} LIMIT 1 OFFSET %s", (*values, LOOKED - 1))
    for row in cursor.fetchall():
        last = rows.served(row)
        return Page(found, way.cursor(last), last)
    return Page(found, None, None)


class _ByClient:
    """Along a client's counters, from the highest down."""

    index = "PRIMARY"
    order = "client DESC, counter DESC"
    outer_order = "looked.counter DESC"

    def __init__(self, query: Query) -> None:
        self._query = query

    def where(self, before: str) -> tuple[str, tuple[Any, ...]]:
        last = _MAX_COUNTER if self._query.last is None else self._query.last
        if before:
            last = min(last, (counter_in(before) or 0) - 1)
        return "client = %s AND counter BETWEEN %s AND %s", (
            self._query.client,
            self._query.first or 0,
            last,
        )

    def cursor(self, last: Served) -> str:
        return str(last.counter)


class _ByTime:
    """Along the time of serving, from the latest back."""

    index = "served"
    order = "served_at DESC, client DESC, counter DESC"
    outer_order = "looked.served_at DESC, looked.client DESC, looked.counter DESC"

    def __init__(self, query: Query) -> None:
        self._query = query

    def where(self, before: str) -> tuple[str, tuple[Any, ...]]:
        since = self._query.since or datetime(1000, 1, 1, tzinfo=UTC)
        until = self._query.until or datetime(9999, 12, 31, tzinfo=UTC)
        if not before:
            return "served_at BETWEEN %s AND %s", (_sql(since), _sql(until))
        at, _, identity = before.partition(" ")
        client, _, counter = identity.rpartition("/")
        upto = time_in(at)
        if upto is None:
            raise Unclear("This address is not one of ours.")
        where = (
            "served_at BETWEEN %s AND %s AND (served_at < %s OR client < %s"
            " OR (client = %s AND counter < %s))"
        )
        last = counter_in(counter) or 0
        return where, (_sql(since), _sql(upto), _sql(upto), client, client, last)

    def cursor(self, last: Served) -> str:
        return f"{_iso(last.served_at)} {last.client}/{last.counter}"


def _sift(query: Query, *, by_client: bool) -> tuple[str, list[Any]]:
    """Return what must hold for a row on the way to be one that is looked for."""
    conditions: list[str] = []
    values: list[Any] = []
    if query.text:
        conditions.append("LOCATE(%s, message) > 0")
        values.append(query.text)
    if query.replica:
        conditions.append("served_by = %s")
        values.append(query.replica)
    if not by_client and query.client:
        conditions.append("client = %s AND counter BETWEEN %s AND %s")
        values += [query.client, query.first or 0, query.last or _MAX_COUNTER]
    return f"({' AND '.join(conditions) or '1 = 1'})", values


def time_in(text: str) -> datetime | None:
    """Read a time in UTC, as a form or an address holds it. Raises Unclear."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Unclear(f"{text[:40]!r} is no time; write 2026-01-31T23:59.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def name_in(text: str, longest: int, what: str) -> str:
    """Read the name of a client or a replica. Raises Unclear."""
    if text and not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{longest}}}", text, re.ASCII):
        raise Unclear(f"{text[:80]!r} cannot be the name of {what}: A-Z a-z 0-9 . _ - only.")
    return text


def counter_in(text: str) -> int | None:
    """Read a counter. Raises Unclear."""
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or int(text) > _MAX_COUNTER:
        raise Unclear(f"{text[:40]!r} is no counter.")
    return int(text)


def _iso(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).replace(tzinfo=None).isoformat()


def _sql(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)
