"""The failures as ``worker failed`` lists, retries and drops them."""

# Statements are built from this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from turnwise.database import Connection, fetch
from turnwise.failed import COLUMNS, DROP, DROPPED, RETRY, UNSERVED, Failed, read

STEP = 1000
"""Rows read, or changed, at a time."""

_AFTER = (
    f"SELECT {COLUMNS} FROM failures WHERE (client > %s OR (client = %s AND counter > %s))"
    f" AND {UNSERVED}"
)
_ORDER = " ORDER BY client, counter LIMIT %s"
_COUNT = f"SELECT COUNT(*) FROM failures WHERE reason <> '{DROPPED}' AND {UNSERVED}"
_ONE = f"SELECT {COLUMNS} FROM failures WHERE client = %s AND counter = %s AND {UNSERVED}"

_THESE = f"WHERE client = %s AND counter IN %s AND reason <> '{DROPPED}'"
_RETRY = f"UPDATE failures SET {RETRY} {_THESE}"
_DROP = f"UPDATE failures SET {DROP} {_THESE}"

Identity = tuple[str, int]


def find(connection: Connection, identity: Identity) -> Failed | None:
    """Return one failure; None if there is no such failure."""
    found = fetch(connection, _ONE, *identity)
    return read(found[0]) if found else None


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
            yield read(row)
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
