"""The failures as an operator lists, retries and drops them."""

# Statements are built from this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from turnwise.database import Connection, fetch
from worker.failures import DIED, DROPPED, FAILED

STEP = 1000
"""Rows read, or changed, at a time."""

# A failure noted in advance may exist for a moment although the request is served.
_OPEN = (
    "NOT EXISTS (SELECT 1 FROM requests WHERE requests.client = failures.client"
    " AND requests.counter = failures.counter)"
)
_COLUMNS = (
    "client, counter, message, sent_at, attempts, deaths, error, traceback, reason, failed_at,"
    " failed_by, due_at"
)
_AFTER = (
    f"SELECT {_COLUMNS} FROM failures WHERE (client > %s OR (client = %s AND counter > %s))"
    f" AND {_OPEN}"
)
_ORDER = " ORDER BY client, counter LIMIT %s"
_COUNT = f"SELECT COUNT(*) FROM failures WHERE reason <> '{DROPPED}' AND {_OPEN}"
_ONE = f"SELECT {_COLUMNS} FROM failures WHERE client = %s AND counter = %s AND {_OPEN}"

_THESE = f"WHERE client = %s AND counter IN %s AND reason <> '{DROPPED}'"
_RETRY = (
    "UPDATE failures SET due_at = UTC_TIMESTAMP(6), attempts = 0, deaths = 0,"
    f" reason = IF(reason = '{DIED}', '{FAILED}', reason) {_THESE}"
)
_DROP = (
    f"UPDATE failures SET reason = '{DROPPED}', due_at = NULL, message = '', traceback = NULL,"
    f" failed_at = UTC_TIMESTAMP(6) {_THESE}"
)

Identity = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that a handler did not serve. ``due_at`` is None if it is given up or dropped."""

    client: str
    counter: int
    message: str
    sent_at: datetime
    attempts: int
    deaths: int
    error: str
    traceback: str | None
    reason: str
    failed_at: datetime
    failed_by: str
    due_at: datetime | None

    @property
    def id(self) -> str:
        """Its identity: CLIENT/COUNTER."""
        return f"{self.client}/{self.counter}"

    @property
    def state(self) -> str:
        """``waiting``, ``given up`` or ``dropped``."""
        if self.due_at is not None:
            return "waiting"
        return DROPPED if self.reason == DROPPED else "given up"


def find(connection: Connection, identity: Identity) -> Failed | None:
    """Return one failure; None if there is no such failure."""
    found = fetch(connection, _ONE, *identity)
    return _failed(found[0]) if found else None


def walk(
    connection: Connection, *, client: str | None = None, dropped: bool = False
) -> Iterator[Failed]:
    """Yield the failures, in the order of their identities."""
    where = _AFTER + ("" if dropped else f" AND reason <> '{DROPPED}'")
    where += "" if client is None else " AND client = %s"
    last: Identity = ("", 0)
    while True:
        values = (last[0], *last) if client is None else (last[0], *last, client)
        rows = fetch(connection, where + _ORDER, *values, STEP)
        for row in rows:
            yield _failed(row)
        if len(rows) < STEP:
            return
        last = (rows[-1][0], rows[-1][1])


def count(connection: Connection, client: str | None) -> int:
    """Return the number of failures that are not dropped."""
    if client is None:
        return int(fetch(connection, _COUNT)[0][0])
    return int(fetch(connection, f"{_COUNT} AND client = %s", client)[0][0])


def retry(connection: Connection, identities: Sequence[Identity]) -> int:
    """Make these due at once and reset their attempts; return how many there were."""
    return _change(connection, _RETRY, identities)


def drop(connection: Connection, identities: Sequence[Identity]) -> int:
    """Give these up for good; return how many there were.

    Their messages are removed. Their identities stay, so that the audit accounts for them and
    repeats are not served.
    """
    return _change(connection, _DROP, identities)


def change_all(
    connection: Connection,
    change: Callable[[Connection, Sequence[Identity]], int],
    client: str | None,
    progress: Callable[[int, int], None],
) -> int:
    """Retry or drop all present failures, in small steps; return how many."""
    total = count(connection, client)
    done = 0
    chosen: list[Identity] = []
    for failed in walk(connection, client=client):
        chosen.append((failed.client, failed.counter))
        if len(chosen) == STEP:
            done += change(connection, chosen)
            chosen.clear()
            progress(min(done, total), total)
    done += change(connection, chosen)
    progress(total, total)
    return done


def _change(connection: Connection, statement: str, identities: Sequence[Identity]) -> int:
    counters: dict[str, list[int]] = {}
    for client, counter in identities:
        counters.setdefault(client, []).append(counter)
    changed = 0
    for client, these in counters.items():
        with connection.cursor() as cursor:
            changed += cursor.execute(statement, (client, these))
    return changed


def _failed(row: Sequence[Any]) -> Failed:
    values: list[Any] = [
        value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for value in row
    ]
    return Failed(*values)
