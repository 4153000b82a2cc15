"""Finds requests that are known to be served, although their rows may have been removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from turnwise.database import Connection

Identity = tuple[str, int]

_LINES = "SELECT client, through FROM pruned WHERE client IN %s"
_GAP = (
    "SELECT last_missing FROM audit_gaps WHERE client = %s AND first_missing <= %s"
    " ORDER BY first_missing DESC LIMIT 1"
)


def lines_of(connection: Connection, clients: Iterable[str]) -> Mapping[str, int]:
    """Return the line of each client that has one: the counter up to which rows were removed."""
    with connection.cursor() as cursor:
        cursor.execute(_LINES, (sorted(set(clients)),))
        return {client: int(through) for client, through in cursor.fetchall()}


def removed_among(connection: Connection, identities: Sequence[Identity]) -> set[Identity]:
    """Return the requests known to be served, whether or not their rows still exist.

    They are at or below their client's line, and in no gap.
    """
    lines = lines_of(connection, (client for client, _ in identities)) if identities else {}
    removed = set()
    with connection.cursor() as cursor:
        for client, counter in identities:
            if counter > lines.get(client, 0):
                continue
            cursor.execute(_GAP, (client, counter))
            row = cursor.fetchone()
            if row is None or row[0] < counter:
                removed.add((client, counter))
    return removed
