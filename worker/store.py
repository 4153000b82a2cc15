"""Requests -> rows. Each write is atomic; repeating it changes nothing."""

from __future__ import annotations

import enum
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from pymysql.constants import ER

from turnwise.database import TIMEOUT, Connection, Database, code_of, translating
from turnwise.errors import ServerError
from turnwise.message import Request, write_times
from turnwise.removed import Identity, removed_among
from worker.counting import MARGIN, advance
from worker.lines import GUARD, Lines
from worker.prepared import Prepared
from worker.sealing import move_seal

INSERT = (
    "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by, deliveries) "
)
_INSERT_ONE = f"{INSERT}SELECT ?, ?, ?, ?, UTC_TIMESTAMP(6), ?, 1 {GUARD.format(epoch='?')}"
_OR_COUNT = " ON DUPLICATE KEY UPDATE deliveries = deliveries + 1"
# Per client, since neither server is sure to use the key for a list of (client, counter) pairs.
_CLAIMED = "SELECT counter, message, deliveries FROM requests WHERE client = %s AND counter IN %s"
_BEFORE = "SAVEPOINT before_claim"
_UNDO = "ROLLBACK TO SAVEPOINT before_claim"
_CORRECT = "UPDATE requests SET deliveries = deliveries + %s WHERE client = %s AND counter = %s"
# A plain read must see what was committed before it, not what the transaction saw first.
FRESH_READS = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"

T = TypeVar("T")

_COUNT_AFTER = 5_000
"""Requests that a worker writes before it counts one client, which takes 1 or 2 % of its work."""

_WORTH_COUNTING = 100
"""Requests of a client written here since it was last counted. With fewer it waits for idleness."""

_COUNTED_IDLE = 100
"""The most clients counted in one go while nothing arrives."""

_REMEMBERED = 10_000
"""The most clients remembered as still to be counted. Others are counted when more of their
requests arrive, or by an audit."""

_SEAL_EVERY = 60.0
"""Seconds between two looks at the seal, on average."""

_SEAL_SHARE = 0.05
"""The share of a worker's time for moving the seal while it lags behind."""


class Outcome(enum.Enum):
    """The result of writing a request."""

    SERVED = "served"
    """It is a new row."""
    REPEATED = "repeated"
    """It was stored already, with the same message."""
    CONFLICT = "conflict"
    """Another message is stored under its identity, and stays as it is."""
    FAILED = "failed"
    """The handler did not serve it; the failure is recorded, with the time it is due again."""


class Store:
    """A connection to the database, opened when needed, that writes as ``name``.

    Every method raises Transient while the database is unavailable, and discards the connection:
    after a timeout or a fail-over it cannot be trusted. Such a write may or may not have been
    committed; the caller must write it again.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self._name = name
        self._connection: Connection | None = None
        self._insert_one: Prepared | None = None
        self._is_prepared = False
        self._lines = Lines()
        self._uncounted: Counter[str] = Counter()
        self._written = 0
        self._written_at = 0.0
        # Workers that start together should not all look at the same rows.
        self._seal_at = time.monotonic() + random.uniform(0, _SEAL_EVERY)

    def open(self) -> Connection:
        """Return the connection, opening it if there is none.

        TIMEOUT then limits all work on it together, the connect included: meanwhile the broker's
        heartbeats are not answered.
        """
        connection = self._connection
        if connection is not None:
            connection.allow(TIMEOUT)
            return connection
        begun = time.monotonic()
        connection = self.database.connect(f"worker {self._name}")
        with translating(self.database):
            connection.query(FRESH_READS)
        self._connection, self._is_prepared = connection, False
        connection.allow(begun + TIMEOUT - time.monotonic())
        return connection

    def close(self) -> None:
        """Discard the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def write(
        self, requests: Sequence[Request], meanwhile: Callable[[], object] | None = None
    ) -> list[Outcome]:
        """Store each request once; return their outcomes, in the same order.

        They must fit into one statement: up to 400 KiB of messages. ``meanwhile()`` may be called
        while the database works.
        """
        if not requests:
            return []
        outcomes = self._using(lambda it: self._write(it, requests, meanwhile))
        self.note_served(requests)
        return outcomes

    def has_rows(self) -> bool:
        """Return whether any request is stored."""
        return self._using(lambda it: bool(it.query("SELECT 1 FROM requests LIMIT 1")))

    def note_served(self, requests: Sequence[Request]) -> None:
        """Remember the clients of these requests as still to be counted."""
        uncounted = self._uncounted
        for request in requests:
            client = request.client
            if client in uncounted or len(uncounted) < _REMEMBERED:
                uncounted[client] += 1
        self._written += len(requests)
        self._written_at = time.monotonic()

    def keep_account(self) -> None:
        """Count the client with the most new rows after some work, and all others when idle.

        See worker/counting.py. A client that another worker is counting is left to that worker.
        Now and then the seal is moved, and clients that nobody has counted are counted with it.
        """
        self._count()
        begun = time.monotonic()
        if begun >= self._seal_at:
            self._seal_at = begun + _SEAL_EVERY
            if self._using(move_seal):
                self._seal_at = begun + (time.monotonic() - begun) / _SEAL_SHARE

    def _count(self) -> None:
        idle = time.monotonic() > self._written_at + MARGIN
        if not self._uncounted or (self._written < _COUNT_AFTER and not idle):
            return
        self._written = 0
        most = max(self._uncounted, key=self._uncounted.__getitem__)
        if self._uncounted[most] >= _WORTH_COUNTING:
            clients = [most]
        elif idle:
            clients = list(self._uncounted)[:_COUNTED_IDLE]
        else:
            return
        for client in clients:
            del self._uncounted[client]
        self._using(lambda it: advance(it, clients))

    def _using(self, work: Callable[[Connection], T]) -> T:
        try:
            with translating(self.database):
                return work(self.open())
        except ServerError:
            self.close()
            raise

    def _write(
        self,
        connection: Connection,
        requests: Sequence[Request],
        meanwhile: Callable[[], object] | None,
    ) -> list[Outcome]:
        if self._lines.clear_of(connection, requests):
            # One statement is one round trip, and is stored as a whole or not at all.
            try:
                if self._insert(connection, requests, meanwhile):
                    return [Outcome.SERVED] * len(requests)
                # A line was moved.
                self._lines.forget()
            except Exception as error:
                if code_of(error) != ER.DUP_ENTRY:
                    raise
        connection.begin()
        outcomes = claim(connection, requests, self._name)
        connection.commit()
        return outcomes

    def _insert(
        self,
        connection: Connection,
        requests: Sequence[Request],
        meanwhile: Callable[[], object] | None,
    ) -> bool:
        """Insert them; return False if the epoch is no longer the one they were checked against."""
        epoch = self._lines.epoch
        if not self._is_prepared:  # not in open(), when the table may not exist yet
            self._insert_one = Prepared.on(connection, _INSERT_ONE)
            self._is_prepared = True
        if len(requests) == 1 and self._insert_one:
            [r] = requests
            [sent_at] = write_times(requests)
            one = (r.client, r.counter, r.message, sent_at, self._name, epoch)
            return self._insert_one.run(*one) == 1
        try:
            guard = f"(SELECT 1 {GUARD.format(epoch=epoch)})"
            connection.run(insert_of(connection, requests, self._name, guard), meanwhile)
        except Exception as error:
            if code_of(error) == ER.BAD_NULL_ERROR:
                return False
            raise
        return True


def claim(connection: Connection, requests: Sequence[Request], name: str) -> list[Outcome]:
    """Insert the new requests as ``name`` in the open transaction; return the outcome of each.

    Waits for a row that another transaction is about to insert. A request returned as SERVED
    belongs to this transaction alone until it ends; nothing is committed here. The connection must
    read committed rows (READ COMMITTED), as Store.open() sets it. The requests must fit into one
    statement: up to 400 KiB of messages.

    Raises pymysql.Error; after a deadlock or a lock wait the transaction must be rolled back.
    """
    firsts: dict[Identity, Request] = {}
    for request in requests:
        firsts.setdefault((request.client, request.counter), request)
    stored = _claim(connection, firsts, name)
    outcomes, repeats = compare(requests, stored)
    corrections = [
        (repeats[identity] - (identity in stored), *identity)
        for identity in sorted(firsts)
        if repeats[identity] != (identity in stored) and stored.get(identity, "") is not None
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_CORRECT, corrections)
    return outcomes


def _claim(
    connection: Connection, wanted: Mapping[Identity, Request], name: str
) -> dict[Identity, str | None]:
    """Insert the new ones; return the messages of the others, None where a row was removed."""
    gone: set[Identity] = set()
    while len(gone) < len(wanted):
        # All workers take the locks in the same order.
        claimed = [wanted[identity] for identity in sorted(wanted.keys() - gone)]
        connection.query(_BEFORE)
        # MySQL counts 1 for each new row, and 2 for each that existed.
        count = connection.query(insert_of(connection, claimed, name) + _OR_COUNT)
        stored = _stored(connection, claimed) if count > len(claimed) else {}
        new = [identity for identity in sorted(wanted.keys() - gone) if identity not in stored]
        # After the insert, not before: see worker/lines.py.
        removed = removed_among(connection, new)
        if not removed:
            return {**stored, **dict.fromkeys(gone)}
        # Undone by a savepoint, since the worker's account has no right to delete.
        connection.query(_UNDO)
        gone |= removed
    return dict.fromkeys(gone)


def insert_of(
    connection: Connection, requests: Sequence[Request], name: str, guard: str = "1"
) -> str:
    """Return the statement that inserts new requests as ``name``."""
    # executemany() would send one row at a time, or split the rows where it likes.
    escape = connection.escape
    clients = {client: escape(client) for client in {request.client for request in requests}}
    rest = f"UTC_TIMESTAMP(6),{escape(name)},"
    rows = [
        f"({clients[r.client]},{r.counter:d},{escape(r.message)},'{sent_at}',{rest}"
        for r, sent_at in zip(requests, write_times(requests), strict=True)
    ]
    # The guard is in one row only, since it holds for the whole statement.
    return f"{INSERT}VALUES {rows[0]}{guard}){''.join(f',{row}1)' for row in rows[1:])}"


def _stored(connection: Connection, claimed: Iterable[Request]) -> dict[Identity, str]:
    """Return the messages of the requests that were stored before this claim."""
    counters: dict[str, list[int]] = {}
    for request in claimed:
        counters.setdefault(request.client, []).append(request.counter)
    stored: dict[Identity, str] = {}
    with connection.cursor() as cursor:
        for client, wanted in counters.items():
            cursor.execute(_CLAIMED, (client, wanted))
            for counter, message, deliveries in cursor.fetchall():
                # A row that was there is counted up by now, and is locked until we commit.
                if deliveries > 1:
                    stored[client, counter] = message
    return stored


def compare(
    requests: Iterable[Request], stored: Mapping[Identity, str | None]
) -> tuple[list[Outcome], Counter[Identity]]:
    """Distinguish new requests from repeats and conflicts, also among each other. Pure.

    ``stored`` holds the messages stored before; None stands for a removed one, and equals any.
    Returns the outcome of each request, and how often each identity was repeated. ``sent_at`` is
    not compared: a client that retries without having kept it sends the same request.
    """
    seen = dict(stored)
    outcomes: list[Outcome] = []
    repeats: Counter[Identity] = Counter()
    for request in requests:
        identity = (request.client, request.counter)
        if identity not in seen:
            seen[identity] = request.message
            outcomes.append(Outcome.SERVED)
        elif seen[identity] in {request.message, None}:
            repeats[identity] += 1
            outcomes.append(Outcome.REPEATED)
        else:
            outcomes.append(Outcome.CONFLICT)
    return outcomes, repeats
