"""Which requests somebody looks for, and how they are found without reading the whole table.

There are two ways into the table: by client and counter, and by the time of serving. A search goes
along one of them, from its newest end, and looks at a bounded number of rows for each page. What
neither way narrows down, as a text in any message ever, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from dashboard import rows, walking
from dashboard.asking import MAX_COUNTER, Unclear, counter_in, name_in, time_in
from dashboard.figures import Identity, Served

PAGE = 50
"""Requests on one page."""

LONGEST_TEXT = 200

_FIELDS = ("client", "first", "last", "text", "replica", "since", "until")


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

    def address(self, **more: str) -> str:
        """Return it as the query part of an address."""
        told = {
            "client": self.client,
            "first": "" if self.first is None else str(self.first),
            "last": "" if self.last is None else str(self.last),
            "text": self.text,
            "replica": self.replica,
            "since": walking.iso(self.since) if self.since else "",
            "until": walking.iso(self.until) if self.until else "",
            **more,
        }
        return urlencode({name: value for name, value in told.items() if value})


@dataclass(frozen=True, slots=True)
class Page:
    """``more`` leads on (the value of ``before``), ``looked_to`` says how far a sifting went."""

    requests: list[Served]
    more: str | None
    looked_to: Identity | None


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
    found = walking.walk(cursor, way(query, before), rows.SERVED_PREVIEW, sift(query), PAGE)
    return Page([rows.served(row) for row in found.rows], found.more, found.looked_to)


def way(query: Query, before: str) -> walking.Way:
    """Return how to go through the table. Raises Unclear."""
    if query.by_client:
        return walking.by_client("requests", query.client, query.first, query.last, before)
    return walking.by_time("requests", "served", "served_at", query.since, query.until, before)


def sift(query: Query) -> tuple[str, list[Any]]:
    """Return what must hold for a row on the way to be one that is looked for."""
    conditions: list[str] = []
    values: list[Any] = []
    if query.text:
        conditions.append("LOCATE(%s, message) > 0")
        values.append(query.text)
    if query.replica:
        conditions.append("served_by = %s")
        values.append(query.replica)
    if not query.by_client and query.client:
        conditions.append("client = %s AND counter BETWEEN %s AND %s")
        values += [query.client, query.first or 0, query.last or MAX_COUNTER]
    return " AND ".join(conditions), values
