"""Queries that a page waits for: few at a time, each bounded, on pooled connections."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from turnwise.database import Connection, Database, translating
from turnwise.errors import ServerError, Transient

AT_ONCE = 4
"""The most queries at a time: the remaining threads answer the live view and the probes."""

LONGEST = 5.0
"""The most seconds that the server may take for one statement."""

_TOO_LONG = frozenset({1969, 3024})
"""The errors of MariaDB and MySQL for a statement that took too long."""


class Busy(Transient):
    """Too many queries at once."""


class Lookups:
    """Lends connections, which the server's process list shows as ``program``."""

    def __init__(self, database: Database, program: str) -> None:
        self._database = database
        self._program = program
        self._free: list[Connection] = []
        self._lent = threading.BoundedSemaphore(AT_ONCE)

    @contextlib.contextmanager
    def cursor(self) -> Iterator[Any]:
        """Lend a cursor on a connection with autocommit.

        Raises ServerError. A connection is discarded after any error.
        """
        with self.connection() as connection, connection.cursor() as cursor:
            yield cursor

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection with autocommit. Raises ServerError, like ``cursor``."""
        if not self._lent.acquire(timeout=1):
            raise Busy("too many queries at once; try again")
        try:
            connection = self._take()
            try:
                with translating(self._database):
                    yield connection
            except ServerError as error:
                connection.close()
                if error.code in _TOO_LONG:
                    raise Transient(
                        f"the database gave up after {LONGEST:.0f} s: ask for less, such as a "
                        "shorter time or one client",
                        code=error.code,
                    ) from error
                raise
            except BaseException:
                connection.close()
                raise
            self._free.append(connection)
        finally:
            self._lent.release()

    def close(self) -> None:
        """Close all connections that are not lent."""
        while self._free:
            self._free.pop().close()

    def _take(self) -> Connection:
        """Return a pooled connection that still works, or a new one."""
        while self._free:
            connection = self._free.pop()
            with contextlib.suppress(ServerError), translating(self._database):
                connection.ping(reconnect=False)
                return connection
            connection.close()
        return self._connect()

    def _connect(self) -> Connection:
        connection = self._database.connect(self._program)
        with translating(self._database), connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            mariadb = "MariaDB" in str(cursor.fetchone())
            name, value = (
                ("max_statement_time", LONGEST)
                if mariadb
                else ("max_execution_time", int(LONGEST * 1000))
            )
            cursor.execute(f"SET SESSION {name} = %s", (value,))
        return connection
