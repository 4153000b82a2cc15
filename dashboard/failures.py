"""Searches and changes failures by client, replica, reason and time."""

# Statements are built from this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from dashboard import walking
from dashboard.asking import Unclear, identity_in, name_in, span_in
from dashboard.figures import Identity
from turnwise.failed import COLUMNS, DROP, RETRY, UNSERVED, Failed, read

PAGE = 50
"""Failures on one page."""

STEP = 500
"""The most failures changed in one transaction."""

# Each is a range of the index 'state' (worker/schema.py).
_WAITING, _GIVEN_UP, _DROPPED = "state = 1", "state = 0", "state = 2"
STATES = {
    "waiting": (_WAITING,),
    "given-up": (_GIVEN_UP,),
    "dropped": (_DROPPED,),
    "": (_WAITING, _GIVEN_UP),
}
REASONS = ("failed", "rejected", "died", "timeout")

CHANGES = {"retry": RETRY, "drop": DROP}


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects failures; ``since`` and ``until`` bound the time of the last attempt."""

    state: str = ""
    client: str = ""
    replica: str = ""
    reason: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def fields(self) -> dict[str, str]:
        """Return the filter's fields as in an address or a form."""
        values = {
            "state": self.state,
            "client": self.client,
            "replica": self.replica,
            "reason": self.reason,
            "since": walking.iso(self.since) if self.since else "",
            "until": walking.iso(self.until) if self.until else "",
        }
        return {name: value for name, value in values.items() if value}

    def address(self, **more: str) -> str:
        """Return the filter as the query part of an address."""
        return urlencode(self.fields() | more)

    @property
    def by_client(self) -> bool:
        """Whether to walk along a client's counters; otherwise along the time of the failure."""
        return bool(self.client) and not (self.since or self.until)

    def parts(self) -> list[Filter]:
        """Return filters that select the same together, each along one range of an index."""
        if self.state or self.by_client:
            return [self]
        return [dataclasses.replace(self, state=state) for state in ("waiting", "given-up")]

    def way(self, before: str) -> walking.Way:
        """Return the way through the table. Raises Unclear."""
        if self.by_client:
            return walking.by_client("failures", self.client, None, None, before)
        kinds = STATES[self.state]
        return walking.by_time(
            "failures", "state", "failed_at", self.since, self.until, before, kinds
        )

    def sift(self) -> tuple[str, list[Any]]:
        """Return the condition that a row on the way must meet, and its values."""
        conditions, values = [], []
        if self.by_client:
            conditions.append(f"({' OR '.join(STATES[self.state])})")
        for condition, value in (
            ("client = %s", "" if self.by_client else self.client),
            ("failed_by = %s", self.replica),
            ("reason = %s", self.reason),
        ):
            if value:
                conditions.append(condition)
                values.append(value)
        return " AND ".join(conditions), values

    def where(self) -> tuple[str, list[Any]]:
        """Return the whole filter as one condition, and its values."""
        condition, values = self.sift()
        conditions = [f"({' OR '.join(STATES[self.state])})", *([condition] if condition else [])]
        for each, bound in (("failed_at >= %s", self.since), ("failed_at <= %s", self.until)):
            if bound:
                conditions.append(each)
                values.append(walking.sql_time(bound))
        return " AND ".join(conditions), values


@dataclass(frozen=True, slots=True)
class Page:
    """``more`` is the next page's ``before``; ``looked_to`` is where a filtered scan stopped."""

    failures: list[Failed]
    more: str | None
    looked_to: Identity | None


def parse(form: Mapping[str, str]) -> Filter:
    """Parse a filter from an address or a form. Raises Unclear."""
    state, reason = form.get("state", ""), form.get("reason", "")
    if state not in STATES:
        raise Unclear(f"{state[:40]!r} is not a state of a failure.")
    if reason and reason not in REASONS:
        raise Unclear(f"{reason[:40]!r} is not a reason of a failure.")
    since, until = span_in(form)
    return Filter(
        state=state,
        client=name_in(form.get("client", "").strip(), 64, "a client"),
        replica=name_in(form.get("replica", "").strip(), 255, "a replica"),
        reason=reason,
        since=since,
        until=until,
    )


def parse_identities(chosen: Sequence[str]) -> list[Identity]:
    """Parse chosen identities, without repeats: at most STEP of them. Raises Unclear."""
    found = list(dict.fromkeys(identity_in(each) for each in chosen))
    if len(found) > STEP:
        raise Unclear(f"Choose at most {STEP} at a time, or all that match.")
    return found


def page(cursor: Any, wanted: Filter, before: str) -> Page:
    """Return a page of failures, latest first. Raises Unclear."""
    found = walking.walk(cursor, wanted.way(before), COLUMNS, wanted.sift(), PAGE, only=UNSERVED)
    sifted = found.looked_to if wanted.sift()[0] else None
    return Page([read(row) for row in found.rows], found.more, sifted)


def count(cursor: Any, wanted: Filter, seconds: float = 0.0) -> tuple[int, bool]:
    """Return how many match, and whether that is all.

    Each statement examines a bounded number; no further one begins after ``seconds``.
    """
    until = time.monotonic() + seconds
    total = 0
    for part in wanted.parts():
        before: str | None = ""
        while before is not None:
            hits, before = walking.count(cursor, part.way(before), part.sift())
            total += hits
            if before is not None and time.monotonic() >= until:
                return total, False
    return total, True


def step(cursor: Any, wanted: Filter, before: str) -> tuple[list[Identity], str | None]:
    """Return the next matching identities, and the next ``before``."""
    columns = "failures.client, failures.counter"
    found = walking.walk(cursor, wanted.way(before), columns, wanted.sift(), STEP)
    return [(client, int(counter)) for client, counter in found.rows], found.more


def change(cursor: Any, what: str, identities: Sequence[Identity], wanted: Filter) -> int:
    """Retry or drop these, if they still match; return how many were changed."""
    where, values = wanted.where()
    counters: dict[str, list[int]] = {}
    for client, counter in identities:
        counters.setdefault(client, []).append(counter)
    return sum(
        cursor.execute(
            f"UPDATE failures SET {CHANGES[what]} WHERE client = %s AND counter IN %s"
            f" AND failures.reason <> 'dropped' AND {where}",
            (client, some, *values),
        )
        for client, some in counters.items()
    )
