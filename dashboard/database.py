"""What the database says, by a few bounded queries that go by an index."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from dashboard.board import Board
from dashboard.figures import Identity, Served
from turnwise.audit import audit
from turnwise.database import Connection, Database, translating
from turnwise.errors import ServerError

TURNS = 100
"""Requests that are shown."""

PREVIEW = 300
"""Characters of a message that are shown before somebody asks for all of it."""

COUNTED_MOST = 50_000
"""Requests that are counted at a time for the chart, the newest first."""

AUDIT_SHARE = 0.05
"""How much of the time the audit may take."""

AUDIT_AGAIN = 15.0
"""Seconds after which it is made again though nothing was served: rows may be gone."""

# MariaDB would rather sort the whole table than follow an index backwards: hence FORCE INDEX.
_NOW = "SELECT UTC_TIMESTAMP(6)"
_LATEST = (
    "SELECT client, counter, LEFT(message, %s), OCTET_LENGTH(message), sent_at, served_at,"
    " served_by, deliveries FROM requests FORCE INDEX (served)"
    " ORDER BY served_at DESC, client DESC, counter DESC LIMIT %s"
)
_THESE = (
    "SELECT client, counter, message, OCTET_LENGTH(message), sent_at, served_at,"
    " served_by, deliveries FROM requests WHERE client = %s AND counter IN %s"
)
_COUNTED = """
    SELECT second, served_by, COUNT(*) FROM (
        SELECT FLOOR(UNIX_TIMESTAMP(served_at)) AS second, served_by
        FROM requests FORCE INDEX (served)
        WHERE served_at >= FROM_UNIXTIME(%s) AND served_at < FROM_UNIXTIME(%s)
        ORDER BY served_at DESC LIMIT %s
    ) AS newest GROUP BY second, served_by
"""


class _Source:
    """A connection that is made when it is needed, and thrown away with any error on it."""

    def __init__(self, database: Database, program: str, board: Board) -> None:
        self._database = database
        self._program = program
        self._board = board
        self._connection: Connection | None = None

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(ServerError), translating(self._database):
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


class Requests(_Source):
    """The latest requests, how many were served in each second, and those that are followed."""

    server = "database"
    hurries = True
    pace = 0.3

    def __init__(self, database: Database, board: Board) -> None:
        super().__init__(database, "dashboard", board)

    def look(self) -> float:
        """Tell the board; return after how many seconds to look again."""
        with self._using() as connection, connection.cursor() as cursor:
            cursor.execute(_NOW)
            [[clock]] = cursor.fetchall()
            now = clock.replace(tzinfo=UTC).timestamp()
            self._board.set_clock(now)
            cursor.execute(_LATEST, (PREVIEW, TURNS))
            self._board.put_requests([_served(row) for row in cursor.fetchall()])
            self._count(cursor, int(now))
            self._follow(cursor)
        return self.pace

    def _count(self, cursor: Any, now: int) -> None:
        """Count the seconds that are over, the last one twice: a commit may take a moment."""
        first = self._board.counted_from()
        if first >= now - 1:
            return
        cursor.execute(_COUNTED, (first, now, COUNTED_MOST))
        served: dict[int, dict[str, int]] = defaultdict(dict)
        for second, name, count in cursor.fetchall():
            served[int(second)][name] = int(count)
        if sum(sum(counts.values()) for counts in served.values()) >= COUNTED_MOST:
            # There are more: what is older than the last of them was not counted in full.
            first = min(min(served) + 1, max(served))
        self._board.put_served(first, now - 1, served)

    def _follow(self, cursor: Any) -> None:
        counters: dict[str, list[int]] = defaultdict(list)
        for client, counter in self._board.followed():
            counters[client].append(counter)
        found: dict[Identity, Served | None] = {}
        for client, wanted in counters.items():
            found |= {(client, counter): None for counter in wanted}
            cursor.execute(_THESE, (client, wanted))
            found |= {request.identity: request for request in map(_served, cursor.fetchall())}
        self._board.put_followed(found)


class Accounts(_Source):
    """The audit, on a connection of its own: with many clients it takes a while."""

    server = "audit"
    hurries = False
    pace = 1.0

    def __init__(self, database: Database, board: Board) -> None:
        super().__init__(database, "dashboard audit", board)
        self._audited: tuple[int, float] | None = None

    def look(self) -> float:
        """Tell the board; return after how many seconds to look again."""
        begun = time.monotonic()
        change = self._board.last_served()
        with self._using() as connection:
            if self._audited and self._audited[0] == change and begun < self._audited[1]:
                connection.ping(reconnect=False)
                return self.pace
            self._board.put_audit(audit(connection))
        self._audited = change, begun + AUDIT_AGAIN
        return max(self.pace, (time.monotonic() - begun) / AUDIT_SHARE)


def _served(row: tuple[Any, ...]) -> Served:
    client, counter, message, size, sent_at, served_at, served_by, deliveries = row
    return Served(
        client, counter, message, size, _utc(sent_at), _utc(served_at), served_by, deliveries
    )


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)
