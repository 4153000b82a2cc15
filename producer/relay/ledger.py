"""The outbox's tables: what waits, which numbers were given out, and which relay is at work.

Every write is one transaction that begins with the row of ``outbox_relay``, and goes on only if
that row still has the epoch of the writer. The row stays locked until the commit: a relay that was
taken over can write nothing more, however late it wakes up, and one that takes over finds all
that was written before it, or nothing of it. No clock is involved.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar

from pymysql.constants import ER, FIELD_TYPE

from producer.client_name import unique_name
from producer.relay.batch import Batch, Range, merge, read_ranges, write_ranges
from producer.relay.line import Row
from producer.relay.sight import Look
from turnwise.database import Connection, Database, translating
from turnwise.errors import Permanent, ServerError, Transient
from turnwise.log import event

log = logging.getLogger(__name__)

T = TypeVar("T")

SILENCE = 5
"""Seconds after which the server ends a connection that says nothing, its transaction and its locks
with it: a relay that is frozen or cut off in mid-transaction must not keep the others out."""

# READ COMMITTED: only what is committed is sent, and no gap is locked against applications.
_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
_TIMEOUTS = (
    f"SET SESSION wait_timeout = {SILENCE}, net_read_timeout = {SILENCE},"
    f" net_write_timeout = {SILENCE}"
)

_STATE = "SELECT epoch, beat, holder FROM outbox_relay WHERE only_row = 1"
_LOCK = (
    "SELECT epoch, beat, holder, numbered, swept FROM outbox_relay WHERE only_row = 1 FOR UPDATE"
)
_TAKE = (
    "UPDATE outbox_relay SET epoch = epoch + 1, beat = 0, holder = %s,"
    " renewed_at = UTC_TIMESTAMP(6) WHERE only_row = 1"
)
_RENEW = (
    "UPDATE outbox_relay SET beat = beat + 1, renewed_at = UTC_TIMESTAMP(6)"
    " WHERE only_row = 1 AND epoch = %s"
)
_FENCE = (
    "UPDATE outbox_relay SET beat = beat + 1, renewed_at = UTC_TIMESTAMP(6),"
    " numbered = GREATEST(numbered, %s), swept = %s WHERE only_row = 1 AND epoch = %s"
)
_RELEASE = "UPDATE outbox_relay SET holder = NULL WHERE only_row = 1 AND epoch = %s"

_CLIENTS = "SELECT queue, client, last, cluster FROM outbox_clients"
_MET = "UPDATE outbox_clients SET cluster = %s WHERE queue = %s"
_NEW_CLIENT = "INSERT INTO outbox_clients (queue, client, last) VALUES (%s, %s, 0)"
_NUMBERED = "UPDATE outbox_clients SET last = %s WHERE queue = %s AND client = %s AND last = %s"

_BATCHES = "SELECT queue, client, first, size, ids FROM outbox_batches ORDER BY client, first"
_ADD_BATCH = (
    "INSERT INTO outbox_batches (client, first, size, queue, ids) VALUES (%s, %s, %s, %s, %s)"
)
_REMOVE_BATCH = "DELETE FROM outbox_batches WHERE client = %s AND first = %s"
# Of clients that an operator has removed, as after a backup was restored: their rows get new
# numbers.
_REMOVE_ORPHANS = (
    "DELETE FROM outbox_batches WHERE NOT EXISTS (SELECT 1 FROM outbox_clients AS c"
    " WHERE c.client = outbox_batches.client AND c.queue = outbox_batches.queue)"
)

_REMOVE_ROWS = "DELETE FROM outbox WHERE id IN %s"
_REMOVE_RANGE = "DELETE FROM outbox WHERE id BETWEEN %s AND %s"
_LONG = 50
"""Rows without a hole that are asked for, or removed, as a range."""

_ROWS = "SELECT id, queue, message, created_at FROM outbox WHERE "
_IN_RANGE = "id BETWEEN %s AND %s"


@dataclass(frozen=True, slots=True)
class State:
    """Which relay is at work, and how far it has come. No holder: none is."""

    epoch: int
    beat: int
    holder: str | None


@dataclass(frozen=True, slots=True)
class Charge:
    """What a relay finds when it begins: its epoch, and what it is in charge of from now on."""

    epoch: int
    clients: Mapping[str, tuple[str, int]]
    """For each queue: the client, and its last number."""
    clusters: Mapping[str, str]
    """For each queue that ever confirmed something: the RabbitMQ cluster that it is in."""
    batches: Sequence[Batch]
    """What is numbered and not yet known to be confirmed."""
    highest: int
    """The highest id that was ever numbered."""
    swept: int
    """Hardly anything waits up to this id."""


class LedgerAway(Transient):
    """The database cannot read or write the ledger now."""


class TakenOver(Exception):
    """Another relay is at work."""


class Ledger:
    """A connection to the database, made when it is needed, for a relay called ``name``.

    Every method raises LedgerAway when the database cannot do it now; the connection is thrown away
    then, and whether a write was committed is known only by acquiring anew.
    """

    def __init__(self, database: Database, name: str, base: str) -> None:
        """``base`` is what new clients are named after."""
        self.database = database
        self.name = name
        self._base = base
        self._connection: Connection | None = None

    def close(self) -> None:
        """Throw the connection away."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def state(self) -> State:
        """Return which relay is at work."""
        return self._using(self._state)

    def acquire(self, seen: State) -> Charge | None:
        """Be the one at work from now on, if all is still as it was ``seen``; None if it is not."""
        return self._using(lambda connection: self._acquire(connection, seen))

    def renew(self, epoch: int) -> None:
        """Show that the relay of this epoch is at work. Raises TakenOver if it is not any more."""

        def renew(connection: Connection) -> None:
            if _execute(connection, _RENEW, epoch) != 1:
                raise TakenOver

        self._using(renew)

    def release(self, epoch: int) -> None:
        """Let another relay begin at once."""
        self._using(lambda connection: _execute(connection, _RELEASE, epoch))

    def read(
        self, look: Look, limit: int, known: Iterable[Range], without: Sequence[str]
    ) -> list[Row]:
        """Return committed rows that are neither ``known`` nor for one of the queues ``without``.

        At most ``limit`` of them, the lowest ids first.
        """
        condition, values = "id > %s", [look.after]
        if look.through is not None:
            condition += " AND id <= %s"
            values.append(look.through)
        long, short = _parted(known)
        condition += "".join(f" AND id NOT BETWEEN {first} AND {last}" for first, last in long)
        if short:
            condition += f" AND id NOT IN ({','.join(map(str, short))})"
        if without:
            condition += " AND queue NOT IN %s"
        arguments = (*values, *((tuple(without),) if without else ()), limit)
        statement = f"{_ROWS}{condition} ORDER BY id LIMIT %s"
        return self._using(lambda connection: _rows(connection, statement, *arguments))

    def rows(self, batches: Iterable[Batch]) -> dict[int, Row]:
        """Return the rows of batches, by their ids; those that somebody removed are missing."""
        long, short = _parted(chain.from_iterable(batch.ranges for batch in batches))

        def read(connection: Connection) -> dict[int, Row]:
            rows = [row for each in long for row in _rows(connection, f"{_ROWS}{_IN_RANGE}", *each)]
            if short:
                rows += _rows(connection, f"{_ROWS}id IN %s", tuple(short))
            return {row.id: row for row in rows}

        return self._using(read)

    def add_client(self, epoch: int, queue: str) -> str:
        """Name a client for a new queue; no other installation has the same."""
        client = unique_name(self._base)

        def add(connection: Connection) -> str:
            with _transaction(connection):
                if _execute(connection, _RENEW, epoch) != 1:
                    raise TakenOver
                _execute(connection, _NEW_CLIENT, queue, client)
            return client

        return self._using(add)

    def part(self, epoch: int, whole: Sequence[Batch], parts: Sequence[Batch]) -> None:
        """Write ``parts`` down in place of ``whole``: the same rows under the same numbers."""

        def part(connection: Connection) -> None:
            with _transaction(connection):
                if _execute(connection, _RENEW, epoch) != 1:
                    raise TakenOver
                for batch in whole:
                    _execute(connection, _REMOVE_BATCH, batch.client, batch.first)
                for batch in parts:
                    _add(connection, batch)

        self._using(part)

    def write(
        self,
        epoch: int,
        new: Sequence[Batch],
        confirmed: Sequence[Batch],
        highest: int,
        swept: int,
        met: Mapping[str, str] | None = None,
    ) -> None:
        """Number ``new`` batches and remove ``confirmed`` ones with their rows, all or nothing.

        ``met`` has the queues that confirmed something for the first time, each with its cluster.

        Raises TakenOver if another relay is at work; then nothing was written.
        """

        def write(connection: Connection) -> None:
            with _transaction(connection):
                if _execute(connection, _FENCE, highest, swept, epoch) != 1:
                    raise TakenOver
                for batch in new:
                    _number(connection, batch)
                _remove_rows(connection, confirmed)
                for batch in confirmed:
                    _execute(connection, _REMOVE_BATCH, batch.client, batch.first)
                for queue, cluster in (met or {}).items():
                    _execute(connection, _MET, cluster, queue)

        self._using(write)

    def _using(self, work: Callable[[Connection], T]) -> T:
        try:
            with translating(self.database):
                if self._connection is None:
                    self._connection = self.database.connect(f"producer relay {self.name}")
                    _execute(self._connection, _ISOLATION)
                    _execute(self._connection, _TIMEOUTS)
                    self._connection.decoders[FIELD_TYPE.DATETIME] = _read_time
                return work(self._connection)
        except ServerError as error:
            self.close()
            raise _away(error, self.database) from error.__cause__

    def _state(self, connection: Connection) -> State:
        rows = _fetch(connection, _STATE)
        if not rows:
            # A migration makes the table first, and then its row.
            raise Transient(
                f"the table outbox_relay of {self.database} has no row; waiting for 'worker "
                "migrate', or for whoever deleted it"
            )
        return State(*rows[0])

    def _acquire(self, connection: Connection, seen: State) -> Charge | None:
        with _transaction(connection):
            [(epoch, beat, holder, highest, swept)] = _fetch(connection, _LOCK)
            if State(epoch, beat, holder) != seen:
                return None
            _execute(connection, _TAKE, self.name)
            orphans = _execute(connection, _REMOVE_ORPHANS)
            rows = _fetch(connection, _CLIENTS)
            clients = {queue: (client, last) for queue, client, last, _ in rows}
            clusters = {queue: cluster for queue, *_, cluster in rows if cluster}
            batches = [
                Batch(queue, client, first, size, read_ranges(ids))
                for queue, client, first, size, ids in _fetch(connection, _BATCHES)
            ]
        if orphans:
            event(log, logging.WARNING, "batches.dropped", batches=orphans, reason="no such client")
        return Charge(epoch + 1, clients, clusters, batches, highest, swept)


@contextlib.contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    except TakenOver:
        connection.rollback()
        raise
    connection.commit()


def _execute(connection: Connection, statement: str, *values: object) -> int:
    """Return how many rows it changed."""
    with connection.cursor() as cursor:
        return cursor.execute(statement, values or None)


def _fetch(connection: Connection, statement: str, *values: object) -> Sequence[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall()


def _rows(connection: Connection, statement: str, *values: object) -> list[Row]:
    return list(map(Row._make, _fetch(connection, statement, *values)))


def _read_time(text: str) -> datetime | str:
    # The session's time zone is UTC. PyMySQL would take ten times as long, and leave the zone out.
    try:
        return datetime.fromisoformat(f"{text}Z")
    except ValueError:
        return text


def _number(connection: Connection, batch: Batch) -> None:
    _add(connection, batch)
    changed = _execute(
        connection, _NUMBERED, batch.last, batch.queue, batch.client, batch.first - 1
    )
    if changed != 1:
        # Somebody changed the table by hand, or restored it. Begin anew with what it says now.
        raise Transient(f"the numbers of queue {batch.queue!r} are not where this relay left them")


def _add(connection: Connection, batch: Batch) -> None:
    ids = write_ranges(batch.ranges)
    _execute(connection, _ADD_BATCH, batch.client, batch.first, batch.size, batch.queue, ids)


def _remove_rows(connection: Connection, batches: Iterable[Batch]) -> None:
    long, short = _parted(chain.from_iterable(batch.ranges for batch in batches))
    for first, last in long:
        _execute(connection, _REMOVE_RANGE, first, last)
    if short:
        _execute(connection, _REMOVE_ROWS, tuple(short))


def _parted(ids: Iterable[Range]) -> tuple[list[Range], list[int]]:
    """Return the long ranges, and the ids that are in none of these."""
    merged = merge(ids)
    long = [each for each in merged if each[1] - each[0] >= _LONG]
    short = [
        each for first, last in merged if last - first < _LONG for each in range(first, last + 1)
    ]
    return long, short


def _away(error: ServerError, database: Database) -> LedgerAway | Permanent:
    if error.code == ER.NO_SUCH_TABLE:
        # As with the worker: somebody is about to run it.
        return LedgerAway(f"{database} has no table for the outbox; waiting for 'worker migrate'")
    if error.code == ER.DUP_ENTRY:
        return LedgerAway(f"{error}: begin anew")
    return error if isinstance(error, Permanent) else LedgerAway(str(error), code=error.code)
