"""The ``db`` of a handler: access to its one transaction, not a connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pymysql.constants import SERVER_STATUS

from turnwise.database import Connection, interrupts
from turnwise.errors import NotAllowed
from turnwise.statements import objection, only_writes

_IN_TRANSACTION = SERVER_STATUS.SERVER_STATUS_IN_TRANS

T = TypeVar("T")

Send = Callable[[Any, str, str], None]
"""Sends a follow-up request: (something that executes statements, queue, message)."""


class Answer:
    """The result of a statement; see turnwise.handler.Rows."""

    __slots__ = ("_rows", "lastrowid", "rowcount")

    def __init__(self, rows: Iterator[tuple[Any, ...]], rowcount: int, lastrowid: int) -> None:
        self._rows = rows
        self.rowcount = rowcount
        self.lastrowid = lastrowid

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row; None if there is none left."""
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows that are not fetched yet."""
        return list(self._rows)


class Door:
    """Executes statements in a transaction that its caller began and will end.

    ``fault`` is the error that made the transaction unusable, if any. Every later call raises it
    again, so that a handler which swallows an error cannot continue. It is a driver error if the
    server ended the transaction or the connection, and NotAllowed if the handler did something
    that is not allowed.
    """

    __slots__ = ("_connection", "_cursor", "_process", "_send", "_thread", "_write", "fault")

    def __init__(self, connection: Connection, send: Send) -> None:
        self.fault: Exception | None = None
        self._connection: Connection | None = connection
        self._cursor = connection.cursor()
        # A connection of the user's own, in a test, is PyMySQL's.
        self._write: Callable[[str], tuple[int, int]] | None = getattr(connection, "write", None)
        self._send = send
        self._thread = threading.get_ident()
        self._process = os.getpid()

    def execute(self, sql: str, args: Sequence[Any] | Mapping[str, Any] | None = None) -> Answer:
        """Run one statement; see turnwise.handler.Transaction."""
        self._check()
        if not isinstance(sql, str):
            raise TypeError(f"a statement is a str, not {type(sql).__name__}")
        if (problem := objection(sql)) is not None:
            self.fault = NotAllowed(problem)
            raise self.fault
        cursor = self._cursor
        if self._write is not None and only_writes(sql):
            count, last_id = self._run(self._write, cursor.mogrify(sql, args))
            return Answer(iter(()), count, last_id)
        self._run(cursor.execute, sql, args)
        rows = cursor.fetchall() if cursor.description else ()
        return Answer(iter(rows), cursor.rowcount, cursor.lastrowid or 0)

    def send(self, queue: str, message: str) -> None:
        """Send a follow-up request; see turnwise.handler.Transaction."""
        self._check()
        self._send(self, queue, message)

    def close(self) -> None:
        """Refuse all further calls."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.open and self.fault is None:
            self._look(connection)

    def _check(self) -> None:
        if self._connection is None:
            raise NotAllowed("db is closed: the handler has returned")
        if os.getpid() != self._process:
            raise NotAllowed("db belongs to the process that the handler was called in")
        if threading.get_ident() != self._thread:
            self.fault = NotAllowed("db belongs to the thread that the handler was called in")
        if self.fault is not None:
            raise self.fault

    def _run(self, statement: Callable[..., T], *args: object) -> T:
        connection = self._connection
        assert connection is not None  # noqa: S101 - _check() has seen it
        try:
            result = statement(*args)
        except Exception as error:
            if interrupts(error) or not connection.open:
                self.fault = error
            raise
        self._look(connection)
        if self.fault is not None:
            raise self.fault
        return result

    def _look(self, connection: Connection) -> None:
        if not connection.server_status & _IN_TRANSACTION:
            # Whatever the statement was: the transaction is gone, and with it the claim.
            self.fault = NotAllowed("a statement of the handler's ended the transaction")
