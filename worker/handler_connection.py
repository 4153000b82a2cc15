"""The connection for a handler's transactions: opened when needed, and discarded in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from turnwise.database import Connection, Database, translating
from turnwise.errors import ServerError
from worker.handler_watch import Watch
from worker.store import FRESH_READS

T = TypeVar("T")

IDLE_MARGIN = 30.0
"""Seconds beyond the time limit until the server ends a silent connection. Otherwise a process that
freezes or is cut off during a handler would keep its locks for ever."""


class OwnConnection:
    """A connection of worker ``name``, watched by ``watch``; a handler may run for ``time_limit``.

    ``time_limit`` is in seconds.
    """

    def __init__(self, database: Database, name: str, time_limit: float, watch: Watch[Any]) -> None:
        self._database = database
        self._name = name
        self._longest = time_limit + IDLE_MARGIN
        self._watch = watch
        self._connection: Connection | None = None
        self._used = 0.0

    def use(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work(connection)`` returns; discard the connection after a server's error.

        Raises Transient while the database is unavailable.
        """
        try:
            with translating(self._database):
                connection = self.open()
                with self._watch.ours():
                    return work(connection)
        except ServerError:
            self.close()
            raise

    def open(self) -> Connection:
        """Return the connection, in no transaction; open another one if it may have ended."""
        now = time.monotonic()
        idle, self._used = now - self._used, now
        if self._connection is not None and (not self._connection.open or idle > self._longest / 2):
            self.close()  # before the server closes it
        if self._connection is None:
            connection = self._database.connect(
                f"worker {self._name}", read_timeout=self._longest, autocommit=False
            )
            connection.query(FRESH_READS)
            connection.query(f"SET SESSION wait_timeout = {self._longest:.0f}")
            with connection.cursor() as cursor:
                cursor.execute("SELECT CONNECTION_ID()")
                self._watch.uses(connection, cursor.fetchall()[0][0])
            connection.rollback()
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """Discard the connection."""
        connection, self._connection = self._connection, None
        self._watch.uses(None)
        if connection is not None:
            connection.close()
