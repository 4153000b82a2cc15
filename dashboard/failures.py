"""The failures that somebody asks for: by client, replica, reason and time. SQL and its meaning."""

# Statements are put together of this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from dashboard import rows
from dashboard.figures import Failure, Identity
from dashboard.search import Unclear, counter_in, name_in, time_in

PAGE = 50
"""Failures on one page."""

STEP = 500
"""Failures that are changed in one transaction."""

STATES = {
    "waiting": "failures.due_at IS NOT NULL",
    "given-up": "failures.due_at IS NULL AND failures.reason <> 'dropped'",
    "dropped": "failures.reason = 'dropped'",
    "": "failures.reason <> 'dropped'",
}
REASONS = ("failed", "rejected", "died", "timeout")

# A note that was made in advance may outlive the serving for a moment.
_UNSERVED = (
    "NOT EXISTS (SELECT 1 FROM requests WHERE requests.client = failures.client"
    " AND requests.counter = failures.counter)"
)

CHANGES = {
    # Somebody has looked: it begins anew.
    "retry": (
        "attempts = 0, deaths = 0, due_at = UTC_TIMESTAMP(6),"
        " reason = IF(reason = 'died', 'failed', reason)"
    ),
    # Kept as a mark, so that it is accounted for and a repeat does not bring it back.
    "drop": (
        "reason = 'dropped', due_at = NULL, message = '', traceback = NULL,"
        " failed_at = UTC_TIMESTAMP(6)"
    ),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which failures are meant; ``since`` and ``until`` are when they failed last."""

    state: str = ""
    client: str = ""
    replica: str = ""
    reason: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def fields(self) -> dict[str, str]:
        """Return it as an address or a form holds it."""
        told = {
            "state": self.state,
            "client": self.client,
            "replica": self.replica,
            "reason": self.reason,
            "since": self.since.replace(tzinfo=None).isoformat() if self.since else "",
            "until": self.until.replace(tzinfo=None).isoformat() if self.until else "",
        }
        return {name: value for name, value in told.items() if value}

    def address(self, **more: str) -> str:
        """Return it as the query part of an address."""
        return urlencode(self.fields() | more)

    def where(self) -> tuple[str, list[Any]]:
        """Return it as SQL."""
        conditions, values = [STATES[self.state]], []
        for condition, value in (
            ("failures.client = %s", self.client),
            ("failures.failed_by = %s", self.replica),
            ("failures.reason = %s", self.reason),
            ("failures.failed_at >= %s", self.since and self.since.replace(tzinfo=None)),
            ("failures.failed_at <= %s", self.until and self.until.replace(tzinfo=None)),
        ):
            if value:
                conditions.append(condition)
                values.append(value)
        return " AND ".join(conditions), values


def parse(form: Mapping[str, str]) -> Filter:
    """Read a filter as it stands in an address or a form. Raises Unclear."""
    state, reason = form.get("state", ""), form.get("reason", "")
    if state not in STATES:
        raise Unclear(f"{state[:40]!r} is no state of a failure.")
    if reason and reason not in REASONS:
        raise Unclear(f"{reason[:40]!r} is no reason of a failure.")
    return Filter(
        state=state,
        client=name_in(form.get("client", "").strip(), 64, "a client"),
        replica=name_in(form.get("replica", "").strip(), 255, "a replica"),
        reason=reason,
        since=time_in(form.get("since", "")),
        until=time_in(form.get("until", "")),
    )


def parse_identities(chosen: Sequence[str]) -> list[Identity]:
    """Read what was chosen on a page. Raises Unclear."""
    found = []
    for each in chosen[:PAGE]:
        client, _, counter = each.rpartition("/")
        found.append((name_in(client, 64, "a client"), counter_in(counter) or 0))
    return found


def page(cursor: Any, wanted: Filter, before: str) -> tuple[list[Failure], str | None]:
    """Return a page of failures, the latest first, and what leads on to the next."""
    where, values = wanted.where()
    if before:
        at, _, identity = before.partition(" ")
        client, _, counter = identity.rpartition("/")
        failed_at = time_in(at)
        if failed_at is None:
            raise Unclear("This address is not one of ours.")
        where += " AND (failures.failed_at, failures.client, failures.counter) < (%s, %s, %s)"
        values += [failed_at.replace(tzinfo=None), client, counter_in(counter) or 0]
    cursor.execute(
        f"SELECT {rows.FAILURE} FROM failures WHERE {where} AND {_UNSERVED}"
        " ORDER BY failed_at DESC, client DESC, counter DESC LIMIT %s",
        (*values, PAGE + 1),
    )
    found = [rows.failure(row) for row in cursor.fetchall()]
    if len(found) <= PAGE:
        return found, None
    last = found[PAGE - 1]
    at = last.failed_at.replace(tzinfo=None).isoformat()
    return found[:PAGE], f"{at} {last.client}/{last.counter}"


def count(cursor: Any, wanted: Filter) -> int:
    """Return how many there are."""
    where, values = wanted.where()
    cursor.execute(f"SELECT COUNT(*) FROM failures WHERE {where} AND {_UNSERVED}", values)
    return int(cursor.fetchone()[0])


def step(cursor: Any, wanted: Filter, after: Identity | None) -> list[Identity]:
    """Return the next identities of those that match, in the order of the key."""
    where, values = wanted.where()
    if after:
        where += " AND (failures.client > %s OR (failures.client = %s AND failures.counter > %s))"
        values += [after[0], *after]
    cursor.execute(
        f"SELECT client, counter FROM failures WHERE {where} ORDER BY client, counter LIMIT %s",
        (*values, STEP),
    )
    return [(client, int(counter)) for client, counter in cursor.fetchall()]


def change(cursor: Any, what: str, identities: Sequence[Identity], wanted: Filter) -> int:
    """Retry or drop these, as far as they still match; return how many were changed."""
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
