"""What the table holds, per client: served without a gap up to where, and what is missing.

Counting ten million rows takes seconds, and a served request never changes. So the workers keep an
account as they go: for each client, up to which counter it is counted, what was missing up to
there, and who served how many. What is newer is counted when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from turnwise.database import Connection

STEP = 50_000
"""Counters that are counted in one transaction: some tens of milliseconds."""

MARGIN = 1000
"""The newest counters are not written down yet: those in somebody's hand would be gaps."""

SHOWN_GAPS = 10

# One client after the other: for GROUP BY client, a server may look at every row.
_NEXT_CLIENT = "SELECT MIN(client) FROM requests WHERE client > %s"
_HIGHEST_OF = "SELECT MAX(counter) FROM requests WHERE client = %s"
_OPEN = (
    "INSERT INTO audits (client, through, repeated) VALUES (%s, 0, 0)"
    " ON DUPLICATE KEY UPDATE client = client"
)
_LOCK = "SELECT through FROM audits WHERE client = %s FOR UPDATE SKIP LOCKED"
_THROUGH = "SELECT through, repeated FROM audits WHERE client = %s"
_ADVANCE = "UPDATE audits SET through = %s, repeated = repeated + %s WHERE client = %s"

_FORGET = ("DELETE FROM audits", "DELETE FROM audit_gaps", "DELETE FROM audit_shares")

_COUNT = (
    "SELECT COUNT(*), COUNT(DISTINCT counter) FROM requests"
    " WHERE client = %s AND counter BETWEEN %s AND %s"
)
_COUNT_BY_REPLICA = (
    "SELECT served_by, COUNT(*) FROM requests"
    " WHERE client = %s AND counter BETWEEN %s AND %s GROUP BY served_by"
)
_ADD_SHARE = (
    "INSERT INTO audit_shares (client, served_by, served) VALUES (%s, %s, %s)"
    " ON DUPLICATE KEY UPDATE served = served + %s"
)
_SHARES = "SELECT served_by, served FROM audit_shares WHERE client = %s"

_GAPS = """
    SELECT counter + 1, following - 1
    FROM (
        SELECT counter, LEAD(counter) OVER (ORDER BY counter) AS following
        FROM (
            SELECT %(first)s - 1 AS counter
            UNION ALL
            SELECT counter FROM requests
            WHERE client = %(client)s AND counter BETWEEN %(first)s AND %(last)s
            UNION ALL
            SELECT %(last)s + 1
        ) AS counters
    ) AS pairs
    WHERE following > counter + 1 ORDER BY counter
"""
_KNOWN_GAPS = (
    "SELECT first_missing, last_missing FROM audit_gaps WHERE client = %s"
    " ORDER BY first_missing LIMIT %s"
)
_FILLED_GAPS = """
    SELECT first_missing, last_missing FROM audit_gaps WHERE client = %s AND EXISTS (
        SELECT 1 FROM requests WHERE requests.client = audit_gaps.client
        AND requests.counter BETWEEN audit_gaps.first_missing AND audit_gaps.last_missing
    )
"""
_MISSING = (
    "SELECT COALESCE(SUM(last_missing - first_missing + 1), 0) FROM audit_gaps WHERE client = %s"
)
_ADD_GAP = "INSERT INTO audit_gaps (client, first_missing, last_missing) VALUES (%s, %s, %s)"
_DROP_GAP = "DELETE FROM audit_gaps WHERE client = %s AND first_missing = %s"


@dataclass(frozen=True, slots=True)
class Account:
    """One client's account. ``gaps`` holds the first few: (first, last) counter missing each."""

    client: str
    served: int
    highest: int
    missing: int
    repeated: int
    resume_at: int
    gaps: tuple[tuple[int, int], ...]

    @property
    def holds(self) -> bool:
        """Whether 1 ... highest are all there, each once."""
        return not self.missing and not self.repeated


@dataclass(frozen=True, slots=True)
class Audit:
    """All accounts, and how many requests each replica served."""

    clients: tuple[Account, ...]
    served_by: dict[str, int]

    @property
    def holds(self) -> bool:
        """Whether every account holds."""
        return all(account.holds for account in self.clients)


def audit(connection: Connection, *, progress: Callable[[int, int], None] | None = None) -> Audit:
    """Account for every client; writes nothing.

    A gap may close by itself: its request may be in a worker's hand. ``progress(done, all)`` is
    told of counters when much is to be counted.
    """
    highest = _highest(connection)
    shares: Counter[str] = Counter()
    accounts = []
    done, total = 0, sum(highest.values())
    for client, last in sorted(highest.items()):
        through, repeated = _one(connection, _THROUGH, client) or (0, 0)
        shares.update(dict(_all(connection, _SHARES, client)))
        (missing,) = _one(connection, _MISSING, client)
        for first_filled, last_filled in _all(connection, _FILLED_GAPS, client):
            rows, distinct = _one(connection, _COUNT, client, first_filled, last_filled)
            missing, repeated = missing - distinct, repeated + rows - distinct
            shares.update(_by_replica(connection, client, first_filled, last_filled))
        served = through - int(missing)
        for first in range(through + 1, last + 1, STEP):
            rows, distinct = _one(connection, _COUNT, client, first, min(first + STEP - 1, last))
            served, repeated = served + distinct, repeated + rows - distinct
            shares.update(_by_replica(connection, client, first, min(first + STEP - 1, last)))
            if progress:
                progress(done + first, total)
        done += last
        highest_known = max(through, last)
        gaps = () if served == highest_known else _first_gaps(connection, client, through, last)
        accounts.append(
            Account(
                client=client,
                served=served,
                highest=highest_known,
                missing=highest_known - served,
                repeated=int(repeated),
                resume_at=gaps[0][0] if gaps else highest_known + 1,
                gaps=gaps,
            )
        )
    return Audit(tuple(accounts), {name: int(shares[name]) for name in sorted(shares)})


def advance(connection: Connection, client: str) -> int | None:
    """Count at most STEP more counters of a client, for good, in one transaction.

    Returns up to which counter it is counted; None if somebody else counts it at this moment.
    """
    if _one(connection, _THROUGH, client) is None:
        _run(connection, _OPEN, client)
    connection.begin()
    locked = _one(connection, _LOCK, client)
    if locked is None:
        connection.rollback()
        return None
    through = int(locked[0])
    for first, last in _all(connection, _FILLED_GAPS, client):
        _run(connection, _DROP_GAP, client, first)
        _write_down(connection, client, first, last)
    (highest,) = _one(connection, _HIGHEST_OF, client)
    upto = min(through + STEP, (highest or 0) - MARGIN)
    if upto > through:
        repeated = _write_down(connection, client, through + 1, upto)
        _run(connection, _ADVANCE, upto, repeated, client)
        through = upto
    connection.commit()
    return through


def recount(connection: Connection, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Forget what was counted, and count it again."""
    for statement in _FORGET:
        _run(connection, statement)
    highest = _highest(connection)
    done, total = 0, sum(highest.values())
    for client, last in highest.items():
        through: int | None = 0
        while through is not None and through < last - MARGIN:
            through = advance(connection, client)
            if progress and through:
                progress(done + through, total)
        done += last


def _write_down(connection: Connection, client: str, first: int, last: int) -> int:
    """Note the shares and the gaps of a range; return how many rows are repeated in it."""
    rows, distinct = _one(connection, _COUNT, client, first, last)
    for name, served in _by_replica(connection, client, first, last).items():
        _run(connection, _ADD_SHARE, client, name, served, served)
    if distinct < last - first + 1:
        for gap in _gaps(connection, client, first, last):
            _run(connection, _ADD_GAP, client, *gap)
    return int(rows - distinct)


def _first_gaps(
    connection: Connection, client: str, through: int, last: int
) -> tuple[tuple[int, int], ...]:
    gaps: list[tuple[int, int]] = []
    for known in _all(connection, _KNOWN_GAPS, client, 10 * SHOWN_GAPS):
        gaps += _gaps(connection, client, *known)
    for first in range(through + 1, last + 1, STEP):
        if len(gaps) > SHOWN_GAPS:
            break
        gaps += _gaps(connection, client, first, min(first + STEP - 1, last))
    return tuple(_joined(gaps)[:SHOWN_GAPS])


def _joined(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join gaps that were cut where one step of counting ended. Pure."""
    joined: list[tuple[int, int]] = []
    for first, last in gaps:
        if joined and joined[-1][1] == first - 1:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def _gaps(connection: Connection, client: str, first: int, last: int) -> list[tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(_GAPS, {"client": client, "first": first, "last": last})
        return [(int(a), int(b)) for a, b in cursor.fetchall()]


def _highest(connection: Connection) -> dict[str, int]:
    highest: dict[str, int] = {}
    client = ""
    while (client := _one(connection, _NEXT_CLIENT, client)[0]) is not None:
        highest[client] = int(_one(connection, _HIGHEST_OF, client)[0])
    return highest


def _by_replica(connection: Connection, client: str, first: int, last: int) -> dict[str, int]:
    return dict(_all(connection, _COUNT_BY_REPLICA, client, first, last))


def _run(connection: Connection, statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def _one(connection: Connection, statement: str, *values: object) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


def _all(connection: Connection, statement: str, *values: object) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
