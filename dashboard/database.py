"""Reads the database, with a few bounded queries that each use an index."""

# Statements are built from this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC
from typing import Any

from dashboard import rows
from dashboard.board import Board
from dashboard.figures import Accounts, Failures, Found, Identity, Line
from dashboard.logouts import Logouts
from turnwise.account import Account, Audit
from turnwise.database import Connection, Database, translating
from turnwise.errors import ServerError
from turnwise.failed import COLUMNS, read
from turnwise.removed import removed_among

TURNS = 100
"""The number of requests shown."""

COUNTED_MOST = 50_000
"""The most requests counted at a time for the chart, newest first."""

COUNTED_FAILURES = 10_000
"""The most failures counted of each kind; beyond that the page shows 'at least'."""

SLOWLY = 1.0
"""Seconds between two polls of what need not be as fresh as the requests."""

AUDITED = 100
"""The most clients that the audit shows one by one; the others appear only in the sums."""

AUDIT_SHARE = 0.05
"""The share of time that the audit may take."""

AUDIT_AGAIN = 15.0
"""Seconds after which the audit is repeated though nothing was served: rows may be gone."""

# MariaDB would sort the whole table rather than follow an index backwards: hence FORCE INDEX.
_NOW = "SELECT UTC_TIMESTAMP(6)"
_LATEST = (
    f"SELECT {rows.SERVED_PREVIEW} FROM requests FORCE INDEX (served)"
    " ORDER BY served_at DESC, client DESC, counter DESC LIMIT %s"
)
_THESE = f"SELECT {rows.SERVED} FROM requests WHERE client = %s AND counter IN %s"
_THESE_FAILED = (
    f"SELECT {COLUMNS} FROM failures WHERE client = %s AND counter IN %s AND reason <> 'dropped'"
)
_KNOWN = (
    "(SELECT 1 FROM requests WHERE client = %s LIMIT 1)"
    " UNION ALL (SELECT 1 FROM audits WHERE client = %s AND through > 0)"
)
# Counted by the index on due_at, up to a bound.
_FAILURES = (
    "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM failures"
    " WHERE due_at IS NOT NULL LIMIT %s) AS waiting),"
    " (SELECT COUNT(*) FROM (SELECT 1 FROM failures"
    " WHERE due_at IS NULL AND reason <> 'dropped' LIMIT %s) AS given_up)"
)
_COUNTED = """
    SELECT second, served_by, COUNT(*) FROM (
        SELECT FLOOR(UNIX_TIMESTAMP(served_at)) AS second, served_by
        FROM requests FORCE INDEX (served)
        WHERE served_at >= FROM_UNIXTIME(%s) AND served_at < FROM_UNIXTIME(%s)
        ORDER BY served_at DESC LIMIT %s
    ) AS newest GROUP BY second, served_by
"""


class DatabaseSource:
    """A connection that is opened when needed, and discarded after any error on it."""

    def __init__(self, database: Database, program: str, board: Board) -> None:
        self._database = database
        self._program = program
        self._board = board
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[Connection]:
        try:
            if self._connection is None:
                self._connection = self._database.connect(self._program)
            with translating(self._database):
                yield self._connection
        except ServerError:
            self.close()
            raise


class Requests(DatabaseSource):
    """Polls the latest requests, how many were served each second, and the followed requests."""

    server = "database"
    hurries = True
    pace = 0.3

    def __init__(self, database: Database, board: Board, logouts: Logouts) -> None:
        super().__init__(database, "dashboard", board)
        self._logouts = logouts
        self._slowly_due = 0.0

    def look(self) -> float:
        """Update the board; return the seconds until the next poll."""
        begun = time.monotonic()
        with self._using() as connection, connection.cursor() as cursor:
            slowly = begun >= self._slowly_due
            if slowly:
                # Before anything is shown to a session that has ended.
                self._logouts.read(cursor)
            self._follow(cursor)  # first, since a page waits for it
            cursor.execute(_NOW)
            [[clock]] = cursor.fetchall()
            now = clock.replace(tzinfo=UTC).timestamp()
            self._board.set_clock(now)
            cursor.execute(_LATEST, (TURNS,))
            self._board.put_requests([rows.served(row) for row in cursor.fetchall()], now)
            self._count(cursor, int(now))
            if slowly:
                self._count_failures(cursor)
                self._slowly_due = begun + SLOWLY
        return self.pace

    def _count(self, cursor: Any, now: int) -> None:
        """Count the seconds that are over, the last one twice, since a commit may take a moment."""
        first = self._board.counted_from()
        if first >= now - 1:
            return
        cursor.execute(_COUNTED, (first, now, COUNTED_MOST))
        served: dict[int, dict[str, int]] = defaultdict(dict)
        for second, name, count in cursor.fetchall():
            served[int(second)][name] = int(count)
        if sum(sum(counts.values()) for counts in served.values()) >= COUNTED_MOST:
            # There are more, so the oldest second among these was not counted in full.
            first = min(min(served) + 1, max(served))
        self._board.put_served(first, now - 1, served)

    def _count_failures(self, cursor: Any) -> None:
        cursor.execute(_FAILURES, (COUNTED_FAILURES, COUNTED_FAILURES))
        [(waiting, given_up)] = cursor.fetchall()
        self._board.put_failures(Failures(int(waiting), int(given_up)))

    def _follow(self, cursor: Any) -> None:
        counters: dict[str, list[int]] = defaultdict(list)
        for client, counter in self._board.followed():
            counters[client].append(counter)
        found: dict[Identity, Found] = {}
        for client, wanted in counters.items():
            cursor.execute(_THESE, (client, wanted))
            for request in map(rows.served, cursor.fetchall()):
                found[request.identity] = Found(request)
            missing = [counter for counter in wanted if (client, counter) not in found]
            if missing:
                found |= self._find_missing(cursor, client, missing)
        self._board.put_followed(found)

    @staticmethod
    def _find_missing(cursor: Any, client: str, counters: list[int]) -> dict[Identity, Found]:
        cursor.execute(_KNOWN, (client, client))
        known = bool(cursor.fetchall())
        cursor.execute(_THESE_FAILED, (client, counters))
        failures = {each.counter: each for each in map(read, cursor.fetchall())}
        removed = removed_among(cursor.connection, [(client, counter) for counter in counters])
        return {
            (client, counter): Found(
                failure=failures.get(counter),
                known=known or bool(failures),
                removed=(client, counter) in removed,
            )
            for counter in counters
        }


class Audits(DatabaseSource):
    """Repeats the audit on a connection of its own, since it takes a while with many clients."""

    server = "audit"
    hurries = False
    pace = 1.0

    def __init__(self, database: Database, board: Board) -> None:
        super().__init__(database, "dashboard audit", board)
        self._change = -1
        self._due = 0.0
        self._stale = 0.0
        self._took = math.inf
        self._clients = 0

    def look(self) -> float:
        """Update the board; return the seconds until the next poll.

        Between two audits it only checks that the server answers.
        """
        begun = time.monotonic()
        change = self._board.last_served()
        with self._using() as connection:
            if begun < self._due or (change == self._change and begun < self._stale):
                connection.ping(reconnect=False)
                return self.pace
            self._due = 0.0  # if it fails, the next one is due at once
            accounts = _accounts(connection, self._clients)
            self._board.put_audit(accounts)
            self._clients = accounts.count
        took = time.monotonic() - begun
        self._change = change
        self._due = begun + interval(took, self._took)
        self._took = took
        self._stale = begun + AUDIT_AGAIN
        return self.pace


def interval(took: float, before: float) -> float:
    """Return the seconds until the next audit begins. Pure.

    The shorter of the last two audits counts, since a long one may have been a database stall.
    """
    return min(took, before) / AUDIT_SHARE


def _accounts(connection: Connection, before: int) -> Accounts:
    """Read the sums, and the lines of some clients, those with a gap first.

    ``before`` is the number of clients in the last audit. If they are few, all their lines are
    read at once; of many, the lines of those without a gap or a failure are read apart.
    """
    audit = Audit(connection, every=before <= AUDITED)
    gaps: list[Account] = []
    failing: list[Account] = []
    others: list[Account] = []
    for account in audit.accounts():
        some = gaps if not account.holds else failing if account.failed else others
        if len(some) < AUDITED:
            some.append(account)
    shown = [*gaps, *failing, *others][:AUDITED]
    totals = audit.totals
    if len(shown) < min(AUDITED, totals.clients):
        there = {account.client for account in shown}
        every = contextlib.closing(Audit(connection, chunk=AUDITED).accounts())
        with every as accounts:
            unseen = (account for account in accounts if account.client not in there)
            shown += itertools.islice(unseen, AUDITED - len(shown))
    return Accounts(
        count=totals.clients,
        served=totals.served,
        missing=totals.missing,
        failed=totals.failed,
        repeated=totals.repeated,
        lines=tuple(
            Line(
                client=each.client,
                served=each.served,
                highest=each.highest,
                missing=each.missing,
                failed=each.failed,
                repeated=each.repeated,
                resume_at=each.resume_at,
                gaps=each.gaps,
            )
            for each in shown
        ),
        served_by=dict(totals.served_by),
    )
