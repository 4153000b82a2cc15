"""Stores the running account: rows counted, requests missing, and requests served per worker.

Counting ten million rows takes seconds, and a served request never changes. So the workers count as
they go, and at most one of them counts a client at a time. turnwise/account.py reads the results.
"""

# Statements are built from this module's own constants and from escaped values.

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from turnwise.account import bound_statements
from turnwise.database import Connection, execute, fetch
from turnwise.walk import STEP, TOGETHER, Gap, Span, Tail, filled, tails, walk, where

MARGIN = 10.0
"""Seconds before a new row is counted. A worker may still hold the requests missing before it,
which would otherwise be stored as a gap."""

GAPS_LOOKED_AT = 1000
"""The most gaps of a client that are checked again when it is counted. An audit checks all."""

_INSERTED = 500
"""Rows in one INSERT."""

_KNOWN = "SELECT client FROM audits WHERE client IN %s"
_OPEN = (
    "INSERT INTO audits (client, through, repeated) VALUES {rows}"
    " ON DUPLICATE KEY UPDATE client = client"
)
_LOCK = "SELECT client, through FROM audits WHERE client IN %s ORDER BY client FOR UPDATE"
# One seek, always. With GROUP BY, stale statistics can make MariaDB read all rows of a client.
_HIGHEST = "SELECT {client}, MAX(counter) FROM requests WHERE client = {client}"
_NTH = (
    "SELECT counter FROM requests WHERE client = %s AND counter > %s"
    " ORDER BY counter LIMIT 1 OFFSET %s"
)
_SETTLED = (
    "SELECT client, MAX(counter) FROM requests WHERE ({where})"
    " AND served_at <= UTC_TIMESTAMP(6) - INTERVAL {margin:d} MICROSECOND GROUP BY client"
)
# Neither VALUES(), which MySQL deprecates, nor AS new, which MariaDB lacks.
_COUNTED = (
    "INSERT INTO audits (client, through, repeated)"
    " SELECT * FROM ({rows}) AS new ON DUPLICATE KEY UPDATE"
    " through = GREATEST(audits.through, new.b), repeated = audits.repeated + new.c"
)
_ADD_SHARES = (
    "INSERT INTO audit_shares (client, served_by, served) SELECT * FROM ({rows}) AS new"
    " ON DUPLICATE KEY UPDATE served = audit_shares.served + new.c"
)
_ADD_GAPS = "INSERT INTO audit_gaps (client, first_missing, last_missing) VALUES {rows}"
_DROP_GAPS = "DELETE FROM audit_gaps WHERE client = %s AND first_missing IN %s"
_GAPPY = "SELECT DISTINCT client FROM audit_gaps WHERE client IN %s"
_GAPS = (
    "SELECT first_missing, last_missing FROM audit_gaps"
    " WHERE client = %s AND first_missing >= %s AND first_missing <= %s"
    " ORDER BY first_missing LIMIT %s"
)
_GAP_BEFORE = (
    "SELECT first_missing FROM audit_gaps WHERE client = %s AND first_missing <= %s"
    " ORDER BY first_missing DESC LIMIT 1"
)
_CLIENTS = "SELECT client FROM {table} WHERE client > %s GROUP BY client ORDER BY client LIMIT %s"

_LINES = "SELECT client, through FROM pruned WHERE client IN %s AND through > 0"
_FORGET_GAPS = "DELETE FROM audit_gaps WHERE client = %s AND first_missing > %s"
_CUT_GAP = "UPDATE audit_gaps SET last_missing = %s WHERE client = %s AND last_missing > %s"
_FORGET_SHARES = "DELETE FROM audit_shares WHERE client = %s"
_REMOVED_SHARES = "SELECT served_by, removed FROM pruned_shares WHERE client = %s"
_RESET = "UPDATE audits SET through = %s, repeated = 0 WHERE client = %s"
BREAK = "UPDATE audits SET through = 0, repeated = repeated + 1 WHERE client = ''"
"""Breaks the seal (turnwise/sealed.py), in the transaction that forgets what was counted."""

_FORGET_ALL = (
    "DELETE FROM audit_gaps WHERE client IN %s",
    "DELETE FROM audit_shares WHERE client IN %s",
    (
        "DELETE FROM audits WHERE client IN %s"
        " AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.client = audits.client)"
    ),
    "UPDATE audits SET through = 0, repeated = 0 WHERE client IN %s",
)


def advance(
    connection: Connection, clients: Sequence[str], *, margin: float = MARGIN, wait: bool = False
) -> dict[str, int]:
    """Count at most STEP more rows of each client, in one transaction, and commit.

    If there are several clients, those with more rows than that to count are skipped. ``margin`` is
    in seconds. Returns the counter up to which each client is counted, except for clients that
    another worker is counting at this moment; with ``wait``, for all. Raises pymysql.Error.
    """
    wanted = sorted(set(clients))
    if not wanted:
        return {}
    known = {client for (client,) in fetch(connection, _KNOWN, wanted)}
    _insert(connection, _OPEN, [(client, 0, 0) for client in wanted if client not in known])
    locked = lock(connection, wanted, wait=wait)
    if locked:
        for (client,) in fetch(connection, _GAPPY, sorted(locked)):
            fill(connection, client, _some_gaps(connection, client))
        locked |= _count(connection, locked, margin)
    connection.commit()
    return locked


def lock(connection: Connection, clients: Sequence[str], *, wait: bool = True) -> dict[str, int]:
    """Begin a transaction that locks these accounts; return up to where each is counted.

    Without ``wait``, accounts that another transaction has locked are skipped. The transaction's
    later reads all see one snapshot, taken no earlier than the locks.
    """
    connection.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.begin()
    rows = fetch(connection, _LOCK + ("" if wait else " SKIP LOCKED"), sorted(clients))
    return {client: int(through) for client, through in rows}


def fill(connection: Connection, client: str, gaps: Sequence[Gap]) -> None:
    """Count the rows that have filled these gaps by now. The account must be locked."""
    closed = sorted(filled(connection, client, gaps))
    found = Tail()
    for gap in closed:
        for piece in walk(connection, client, *gap):
            found.add(piece, every_gap=True)
    for begin in range(0, len(closed), _INSERTED):
        firsts = [first for first, _ in closed[begin : begin + _INSERTED]]
        execute(connection, _DROP_GAPS, client, firsts)
    if closed:
        _note(connection, {client: found}, {client: 0})


def gaps_between(connection: Connection, client: str, first: int, last: int) -> Iterator[list[Gap]]:
    """Yield the gaps that overlap ``first`` to ``last``, in pages."""
    before = fetch(connection, _GAP_BEFORE, client, first)
    begin = int(before[0][0]) if before else first
    while page := _gaps(connection, client, begin, last):
        yield page
        begin = page[-1][1] + 1


def recount(connection: Connection, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Count all rows again, except those that were removed.

    The account stays correct at every moment, as far as it has been counted. Calls
    ``progress(done, total)`` with numbers of clients; the total is an estimate.
    """
    bound_statements(connection)
    done = 0
    for clients in every_client(connection):
        _forget(connection, [client for (client,) in fetch(connection, _KNOWN, clients)])
        count_fully(connection, clients)
        done += len(clients)
        if progress:
            progress(done, done + len(clients))


def count_fully(connection: Connection, clients: Sequence[str], margin: float = MARGIN) -> None:
    """Count all rows of these clients that are older than ``margin`` seconds."""
    rows = _highest(connection, clients)
    reached = advance(connection, [client for client, _ in rows], margin=margin, wait=True)
    for client, highest in rows:
        if highest - reached[client] <= STEP:
            continue
        before = -1
        while before < (now := advance(connection, [client], margin=margin, wait=True)[client]):
            before = now


def every_client(connection: Connection) -> Iterator[list[str]]:
    """Yield all clients that have rows or an account, in pages."""
    after = ""
    while True:
        found = {
            client
            for table in ("requests", "audits")
            for (client,) in fetch(connection, _CLIENTS.format(table=table), after, TOGETHER)
        }
        if not found:
            return
        clients = sorted(found)[:TOGETHER]
        yield clients
        after = clients[-1]


def _forget(connection: Connection, clients: Sequence[str]) -> None:
    """Undo the counting down to the clients' lines; the rows below those were removed."""
    if not clients:
        return
    locked = lock(connection, clients)
    connection.query(BREAK)
    lines = {client: int(line) for client, line in fetch(connection, _LINES, clients)}
    if others := sorted(locked.keys() - lines.keys()):
        for statement in _FORGET_ALL:
            execute(connection, statement, others)
    for client, line in lines.items():
        execute(connection, _FORGET_GAPS, client, line)
        execute(connection, _CUT_GAP, line, client, line)
        for gaps in gaps_between(connection, client, 0, line):
            fill(connection, client, gaps)
        execute(connection, _FORGET_SHARES, client)
        # Both reads must see one snapshot: INSERT ... SELECT would see rows removed since.
        found = _shares(connection, client, line)
        for name, removed in fetch(connection, _REMOVED_SHARES, client):
            found.shares[name] += int(removed)
        _note(connection, {client: found}, {})
        execute(connection, _RESET, line, client)
    connection.commit()


def _shares(connection: Connection, client: str, last: int) -> Tail:
    """Return how many of the remaining rows up to ``last`` each worker served."""
    shares = Tail()
    for piece in walk(connection, client, 1, last):
        shares.shares.update(piece.shares)
    return shares


def _count(connection: Connection, locked: dict[str, int], margin: float) -> dict[str, int]:
    """Count the new rows; return up to where each client is now counted."""
    spans: list[Span] = []
    for client, highest in _highest(connection, locked):
        through, upto = locked[client], highest
        if upto - through > STEP:
            if len(locked) > 1:
                continue
            nth = fetch(connection, _NTH, client, through, STEP - 1)
            upto = int(nth[0][0]) if nth else upto
        if upto > through:
            spans.append((client, through, upto))
    if not spans:
        return {}
    statement = _SETTLED.format(where=where(connection, spans), margin=int(margin * 1_000_000))
    settled = {client: int(upto) for client, upto in fetch(connection, statement)}
    spans = [(client, after, settled[client]) for client, after, _ in spans if client in settled]
    _note(connection, tails(connection, spans, every_gap=True), settled)
    return settled


def _highest(connection: Connection, clients: Iterable[str]) -> list[tuple[str, int]]:
    """Return the highest counter of each of these clients that has rows."""
    found: list[tuple[str, int]] = []
    wanted = sorted(clients)
    for begin in range(0, len(wanted), TOGETHER):
        names = map(connection.escape, wanted[begin : begin + TOGETHER])
        statement = " UNION ALL ".join(_HIGHEST.format(client=name) for name in names)
        rows = fetch(connection, statement)
        found += [(client, int(highest)) for client, highest in rows if highest is not None]
    return found


def _note(connection: Connection, found: dict[str, Tail], through: dict[str, int]) -> None:
    """Store what was found, and up to where each client is counted."""
    shares = [(c, name, n) for c, tail in found.items() for name, n in sorted(tail.shares.items())]
    _insert_selected(connection, _ADD_SHARES, shares)
    _insert(connection, _ADD_GAPS, [(c, *gap) for c, tail in found.items() for gap in tail.gaps])
    counted = [(c, upto, found[c].rows - found[c].distinct) for c, upto in through.items()]
    _insert_selected(connection, _COUNTED, counted)


def _some_gaps(connection: Connection, client: str) -> list[Gap]:
    """Return all gaps of a client, or a random page of them if there are many."""
    gaps = _gaps(connection, client, 0)
    if len(gaps) < GAPS_LOOKED_AT:
        return gaps
    [(last,)] = fetch(
        connection, "SELECT MAX(first_missing) FROM audit_gaps WHERE client = %s", client
    )
    return _gaps(connection, client, random.randint(0, int(last)))


def _gaps(connection: Connection, client: str, first: int, last: int = 2**63 - 1) -> list[Gap]:
    rows = fetch(connection, _GAPS, client, first, last, GAPS_LOOKED_AT)
    return [(int(a), int(b)) for a, b in rows]


def _insert(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    for some in _portions(rows):
        values = ",".join(f"({','.join(str(connection.escape(v)) for v in row)})" for row in some)
        connection.query(statement.format(rows=values))


def _insert_selected(
    connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    for some in _portions(rows):
        selects = " UNION ALL ".join(
            "SELECT " + ",".join(
                f"{connection.escape(value)} AS {name}"
                for name, value in zip("abc", row, strict=True)
            )
            for row in some
        )  # fmt: skip
        connection.query(statement.format(rows=selects))


def _portions(rows: Sequence[tuple[Any, ...]]) -> Iterable[Sequence[tuple[Any, ...]]]:
    return (rows[begin : begin + _INSERTED] for begin in range(0, len(rows), _INSERTED))
