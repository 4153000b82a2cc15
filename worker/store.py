"""Requests -> rows. Each write is one atomic statement; writing the same again changes nothing."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

import pymysql

from turnwise.audit import MARGIN, advance
from turnwise.database import Connection, Database, is_duplicate_key, translate
from turnwise.errors import Transient
from turnwise.message import Request

_INSERT = "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by) VALUES "
# Per client, since neither server is sure to use the key for a list of (client, counter) pairs.
_KNOWN = "SELECT counter, message, sent_at FROM requests WHERE client = %s AND counter IN %s"
_REPEAT = "UPDATE requests SET deliveries = deliveries + 1 WHERE client = %s AND counter = %s"

A = TypeVar("A")
T = TypeVar("T")

_RACES = 10
"""How often another worker may store a request between our look and our write, in one write."""

_COUNT_AFTER = 2 * MARGIN
"""How many more of a client's counters are worth counting."""

_REMEMBERED = 10_000
"""Clients, at most, of whom is remembered how far they are counted."""


class Outcome(enum.Enum):
    """What became of a request that was written."""

    SERVED = "served"
    """It is a new row."""
    REPEATED = "repeated"
    """The very same request was there already."""
    CONFLICT = "conflict"
    """Another request of the same identity is there; it is left as it is."""


Identity = tuple[str, int]
Content = tuple[str, datetime]


class Store:
    """A connection to the database, opened when it is needed, and writing as ``name``.

    Every method raises Transient when the database cannot do it now, and the connection is thrown
    away with it: after a timeout or a fail-over it is not to be trusted. Whether a write that ended
    so was committed, nobody knows; it is to be written again.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self._name = name
        self._connection: Connection | None = None
        self._counted: dict[str, int] = {}
        self._to_count: set[str] = set()

    def open(self) -> Connection:
        """Return the connection, making it if there is none."""
        if self._connection is None:
            self._connection = self.database.connect(f"worker {self._name}")
        return self._connection

    def close(self) -> None:
        """Throw the connection away."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(pymysql.Error):
                connection.close()

    def write(self, requests: Sequence[Request]) -> list[Outcome]:
        """Store each request once; return what became of each, in their order.

        They must fit into one statement: up to 400 KiB of messages.
        """
        if not requests:
            return []
        outcomes = self._using(self._write, requests)
        for request in requests:
            if request.counter > self._counted.get(request.client, 0) + _COUNT_AFTER:
                self._to_count.add(request.client)
        return outcomes

    def keep_account(self) -> None:
        """Count a client of whom much was served since, if there is one; see turnwise/audit.py."""
        if not self._to_count:
            return
        client = self._to_count.pop()
        through = self._using(advance, client)
        if through is not None:
            if len(self._counted) > _REMEMBERED:
                self._counted.clear()
            self._counted[client] = through

    def _using(self, work: Callable[[Connection, A], T], about: A) -> T:
        try:
            return work(self.open(), about)
        except pymysql.Error as error:
            self.close()
            raise translate(error, self.database) from error
        except Transient:
            self.close()
            raise

    def _write(self, connection: Connection, requests: Sequence[Request]) -> list[Outcome]:
        try:
            self._insert(connection, requests)
        except pymysql.err.IntegrityError as error:
            if not is_duplicate_key(error):
                raise
        else:
            return [Outcome.SERVED] * len(requests)
        # The statement was undone as a whole. Some of it was stored before, or comes twice.
        for _ in range(_RACES):
            try:
                return self._write_what_is_new(connection, requests)
            except pymysql.err.IntegrityError as error:
                if not is_duplicate_key(error):
                    raise
                connection.rollback()
        raise Transient(f"other workers keep storing the same requests in {self.database}")

    def _insert(self, connection: Connection, requests: Sequence[Request]) -> None:
        # One statement, whatever its length: it is stored as a whole or not at all. executemany()
        # would send a row at a time, or cut where it likes. No cursor: there is nothing to fetch.
        escape = connection.escape
        served_by = escape(self._name)
        rows = [
            f"({escape(r.client)},{r.counter:d},{escape(r.message)},"
            f"'{r.sent_at.replace(tzinfo=None)}',UTC_TIMESTAMP(6),{served_by})"
            for r in requests
        ]
        connection.query(_INSERT + ",".join(rows))

    def _write_what_is_new(
        self, connection: Connection, requests: Sequence[Request]
    ) -> list[Outcome]:
        connection.begin()
        stored = self._stored(connection, requests)
        outcomes, new, repeated = compare(requests, stored)
        if new:
            self._insert(connection, new)
        if repeated:
            with connection.cursor() as cursor:
                cursor.executemany(_REPEAT, repeated)
        connection.commit()
        return outcomes

    def _stored(
        self, connection: Connection, requests: Iterable[Request]
    ) -> dict[Identity, Content]:
        counters: dict[str, set[int]] = {}
        for request in requests:
            counters.setdefault(request.client, set()).add(request.counter)
        stored: dict[Identity, Content] = {}
        with connection.cursor() as cursor:
            for client, wanted in counters.items():
                cursor.execute(_KNOWN, (client, tuple(wanted)))
                for counter, message, sent_at in cursor.fetchall():
                    stored[client, counter] = (message, sent_at)
        return stored


def compare(
    requests: Sequence[Request], stored: dict[Identity, Content]
) -> tuple[list[Outcome], list[Request], list[Identity]]:
    """Tell new requests from repeats and conflicts, among each other too. Pure.

    Returns the outcome of each request, the requests to insert, and the identities that were
    brought once more (each as often as it was).
    """
    seen = dict(stored)
    outcomes: list[Outcome] = []
    new: list[Request] = []
    repeated: list[Identity] = []
    for request in requests:
        identity = (request.client, request.counter)
        content = (request.message, request.sent_at.replace(tzinfo=None))
        found = seen.get(identity)
        if found is None:
            seen[identity] = content
            new.append(request)
            outcomes.append(Outcome.SERVED)
        elif found == content:
            repeated.append(identity)
            outcomes.append(Outcome.REPEATED)
        else:
            outcomes.append(Outcome.CONFLICT)
    return outcomes, new, repeated
