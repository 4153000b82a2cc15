"""Searches requests without reading the whole table.

There are two ways into the table: by client and counter, and by the time of serving. A search walks
along one of them, from its newest end, and examines a bounded number of rows for each page. A
search that neither way narrows down, such as a text in any message ever, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from dashboard import rows, walking
from dashboard.asking import MAX_COUNTER, Unclear, counter_in, name_in, span_in
from dashboard.figures import Identity, Served

PAGE = 50
"""Requests on one page."""

LONGEST_TEXT = 200

_FIELDS = ("client", "first", "last", "text", "replica", "since", "until")


@dataclass(frozen=True, slots=True)
class Query:
    """A search. ``first`` and ``last`` bound the counter, ``since`` and ``until`` the serving."""

    client: str = ""
    first: int | None = None
    last: int | None = None
    text: str = ""
    replica: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def by_client(self) -> bool:
        """Whether to walk along the client's counters; otherwise along the time of serving."""
        return bool(self.client) and not (self.since or self.until)

    def address(self, **more: str) -> str:
        """Return the search as the query part of an address."""
        fields = {
            "client": self.client,
            "first": "" if self.first is None else str(self.first),
            "last": "" if self.last is None else str(self.last),
            "text": self.text,
            "replica": self.replica,
            "since": walking.iso(self.since) if self.since else "",
            "until": walking.iso(self.until) if self.until else "",
            **more,
        }
        return urlencode({name: value for name, value in fields.items() if value})


@dataclass(frozen=True, slots=True)
class Page:
    """``more`` is the next page's ``before``; ``looked_to`` is where a filtered scan stopped."""

    requests: list[Served]
    more: str | None
    looked_to: Identity | None


def parse(form: Mapping[str, str]) -> Query:
    """Parse a search from an address. Raises Unclear."""
    fields = {name: form.get(name, "").strip() for name in _FIELDS}
    since, until = span_in(fields)
    query = Query(
        client=name_in(fields["client"], 64, "a client"),
        first=counter_in(fields["first"]),
        last=counter_in(fields["last"]),
        text=fields["text"],
        replica=name_in(fields["replica"], 255, "a replica"),
        since=since,
        until=until,
    )
    if len(query.text) > LONGEST_TEXT:
        raise Unclear(f"The text to search for may have at most {LONGEST_TEXT} characters.")
    if query.first is not None and query.last is not None and query.first > query.last:
        raise Unclear("This range of counters ends before it begins.")
    if (query.first or query.last) and not query.client:
        raise Unclear("Each client has counters of its own: name the client too.")
    if (query.text or query.replica) and not (query.client or query.since):
        raise Unclear("This would read the whole table. Name a client or a start time as well.")
    return query


def find(cursor: Any, query: Query, before: str) -> Page:
    """Return a page of matching requests, newest first, that continues at ``before``."""
    found = walking.walk(cursor, way(query, before), rows.SERVED_PREVIEW, sift(query), PAGE)
    return Page([rows.served(row) for row in found.rows], found.more, found.looked_to)


def way(query: Query, before: str) -> walking.Way:
    """Return the way through the table. Raises Unclear."""
    if query.by_client:
        return walking.by_client("requests", query.client, query.first, query.last, before)
    return walking.by_time("requests", "served", "served_at", query.since, query.until, before)


def sift(query: Query) -> tuple[str, list[Any]]:
    """Return the condition that a row on the way must meet, and its values."""
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
