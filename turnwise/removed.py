"""Finds requests that are known to be served, although their rows may have been removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from turnwise.database import Connection

Identity = tuple[str, int]

_LINES = "SELECT client, through FROM pruned WHERE client IN %s"
# One seek each: neither server would use the key for a list of (client, counter) pairs.
_IN_GAP = (
    "SELECT {number:d}, COALESCE((SELECT last_missing FROM audit_gaps"
    " WHERE client = {client} AND first_missing <= {counter:d}"
    " ORDER BY first_missing DESC LIMIT 1), 0) >= {counter:d}"
)
_TOGETHER = 100
"""Requests looked for by one statement."""


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
    below = [(client, n) for client, n in identities if n <= lines.get(client, 0)]
    removed: set[Identity] = set()
    with connection.cursor() as cursor:
        for begin in range(0, len(below), _TOGETHER):
            some = below[begin : begin + _TOGETHER]
            looks = (
                _IN_GAP.format(number=number, client=connection.escape(client), counter=counter)
                for number, (client, counter) in enumerate(some)
            )
            cursor.execute(" UNION ALL ".join(looks))
            removed |= {some[number] for number, missing in cursor.fetchall() if not missing}
    return removed
