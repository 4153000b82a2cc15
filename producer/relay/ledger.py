"""The outbox's tables: the waiting rows, the numbers assigned, and which relay is active.

The epoch in the one row of ``outbox_relay`` is a fencing token. Every write is a transaction that
first updates that row, and continues only if it still has the writer's epoch. The row stays locked
until the commit. So a relay that was replaced can write nothing further, however late it wakes up,
and its successor finds each earlier write complete or not at all. No clock is involved.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import TypeVar

from pymysql.constants import ER, FIELD_TYPE

from producer.client_name import unique_name
from producer.relay.batch import Batch, Range, merge, read_ranges, write_ranges
from producer.relay.line import Row
from producer.relay.sight import Look
from turnwise.database import Connection, Database, execute, fetch, translating
from turnwise.errors import Permanent, ServerError, Transient
from turnwise.log import event

log = logging.getLogger(__name__)

T = TypeVar("T")

SILENCE = 5
"""Seconds after which the server closes an idle connection and releases its locks. Otherwise a
relay that freezes or is cut off in the middle of a transaction would keep the others out."""

# READ COMMITTED: only committed rows are read, and no gap locks block applications.
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
# Batches of clients that an operator has removed, for instance after restoring a backup: their rows
# get new numbers.
_REMOVE_ORPHANS = (
    "DELETE FROM outbox_batches WHERE NOT EXISTS (SELECT 1 FROM outbox_clients AS c"
    " WHERE c.client = outbox_batches.client AND c.queue = outbox_batches.queue)"
)

_REMOVE_ROWS = "DELETE FROM outbox WHERE id IN %s"
_REMOVE_RANGE = "DELETE FROM outbox WHERE id BETWEEN %s AND %s"
_LONG = 50
"""The least number of consecutive rows that are read or deleted as a range."""

_ROWS = "SELECT id, queue, message, created_at FROM outbox WHERE "
_IN_RANGE = "id BETWEEN %s AND %s"


@dataclass(frozen=True, slots=True)
class State:
    """Which relay is active, and its progress. Without a holder, none is."""

    epoch: int
    beat: int
    holder: str | None


@dataclass(frozen=True, slots=True)
class Charge:
    """What a relay takes over when it becomes active: its epoch and the state of the tables."""

    epoch: int
    clients: Mapping[str, tuple[str, int]]
    """For each queue, its client and the last number assigned."""
    clusters: Mapping[str, str]
    """For each queue that ever confirmed a publish, the RabbitMQ cluster that it belongs to."""
    batches: Sequence[Batch]
    """The batches that are numbered and not known to be confirmed."""
    highest: int
    """The highest id that was ever numbered."""
    swept: int
    """Up to this id, hardly any rows are waiting."""


class LedgerAway(Transient):
    """The database cannot read or write the outbox's tables now."""


class TakenOver(Exception):
    """Another relay has taken over."""


class Ledger:
    """A connection to the database for a relay called ``name``, opened when it is needed.

    Every method raises LedgerAway when the database is unavailable, and closes the connection.
    Whether a write was committed is then unknown until the relay acquires the ledger again.
    """

    def __init__(self, database: Database, name: str, base: str) -> None:
        """``base`` is what new clients are named after."""
        self.database = database
        self.name = name
        self._base = base
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def state(self) -> State:
        """Return which relay is active."""
        return self._using(self._state)

    def acquire(self, seen: State) -> Charge | None:
        """Become the active relay if the state is still as ``seen``; return None if it is not."""
        return self._using(lambda connection: self._acquire(connection, seen))

    def renew(self, epoch: int) -> None:
        """Renew the lease of this epoch. Raises TakenOver if another relay has taken over."""

        def renew(connection: Connection) -> None:
            if execute(connection, _RENEW, epoch) != 1:
                raise TakenOver

        self._using(renew)

    def release(self, epoch: int) -> None:
        """Release the lease, so that another relay can take over at once."""
        self._using(lambda connection: execute(connection, _RELEASE, epoch))

    def read(
        self, look: Look, limit: int, known: Iterable[Range], without: Sequence[str]
    ) -> list[Row]:
        """Return committed rows that are neither ``known`` nor for one of the queues ``without``.

        At most ``limit`` of them, lowest ids first.
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
        """Return the rows of batches by id. Rows that were deleted are missing."""
        long, short = _parted(chain.from_iterable(batch.ranges for batch in batches))

        def read(connection: Connection) -> dict[int, Row]:
            rows = [row for each in long for row in _rows(connection, f"{_ROWS}{_IN_RANGE}", *each)]
            if short:
                rows += _rows(connection, f"{_ROWS}id IN %s", tuple(short))
            return {row.id: row for row in rows}

        return self._using(read)

    def add_client(self, epoch: int, queue: str) -> str:
        """Create a client for a new queue; return its name, which is globally unique."""
        client = unique_name(self._base)

        def add(connection: Connection) -> str:
            with _transaction(connection):
                if execute(connection, _RENEW, epoch) != 1:
                    raise TakenOver
                execute(connection, _NEW_CLIENT, queue, client)
            return client

        return self._using(add)

    def part(self, epoch: int, whole: Sequence[Batch], parts: Sequence[Batch]) -> None:
        """Replace the batches ``whole`` by ``parts``: the same rows under the same numbers."""

        def part(connection: Connection) -> None:
            with _transaction(connection):
                if execute(connection, _RENEW, epoch) != 1:
                    raise TakenOver
                for batch in whole:
                    execute(connection, _REMOVE_BATCH, batch.client, batch.first)
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

        ``met`` maps queues that confirmed a publish for the first time to their cluster.

        Raises TakenOver if another relay has taken over; then nothing was written.
        """

        def write(connection: Connection) -> None:
            with _transaction(connection):
                if execute(connection, _FENCE, highest, swept, epoch) != 1:
                    raise TakenOver
                for batch in new:
                    _number(connection, batch)
                _remove_rows(connection, confirmed)
                for batch in confirmed:
                    execute(connection, _REMOVE_BATCH, batch.client, batch.first)
                for queue, cluster in (met or {}).items():
                    execute(connection, _MET, cluster, queue)

        self._using(write)

    def _using(self, work: Callable[[Connection], T]) -> T:
        try:
            with translating(self.database):
                if self._connection is None:
                    self._connection = self.database.connect(f"producer relay {self.name}")
                    execute(self._connection, _ISOLATION)
                    execute(self._connection, _TIMEOUTS)
                    self._connection.decoders[FIELD_TYPE.DATETIME] = _read_time
                return work(self._connection)
        except ServerError as error:
            self.close()
            raise _away(error, self.database) from error.__cause__

    def _state(self, connection: Connection) -> State:
        rows = fetch(connection, _STATE)
        if not rows:
            # A migration first creates the table, then its row.
            raise Transient(
                f"the table outbox_relay of {self.database} has no row; waiting for 'worker "
                "migrate', or for an operator to restore it"
            )
        return State(*rows[0])

    def _acquire(self, connection: Connection, seen: State) -> Charge | None:
        with _transaction(connection):
            [(epoch, beat, holder, highest, swept)] = fetch(connection, _LOCK)
            if State(epoch, beat, holder) != seen:
                return None
            execute(connection, _TAKE, self.name)
            orphans = execute(connection, _REMOVE_ORPHANS)
            rows = fetch(connection, _CLIENTS)
            clients = {queue: (client, last) for queue, client, last, _ in rows}
            clusters = {queue: cluster for queue, *_, cluster in rows if cluster}
            batches = [
                Batch(queue, client, first, size, read_ranges(ids))
                for queue, client, first, size, ids in fetch(connection, _BATCHES)
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


def _rows(connection: Connection, statement: str, *values: object) -> list[Row]:
    return list(map(Row._make, fetch(connection, statement, *values)))


def _read_time(text: str) -> datetime | str:
    # The session's time zone is UTC. PyMySQL takes ten times as long, and returns no zone.
    try:
        return datetime.fromisoformat(f"{text}Z")
    except ValueError:
        return text


def _number(connection: Connection, batch: Batch) -> None:
    _add(connection, batch)
    changed = execute(connection, _NUMBERED, batch.last, batch.queue, batch.client, batch.first - 1)
    if changed != 1:
        # The table was edited by hand, or restored. Start again from what it holds now.
        raise Transient(f"the numbers of queue {batch.queue!r} are not where this relay left them")


def _add(connection: Connection, batch: Batch) -> None:
    ids = write_ranges(batch.ranges)
    execute(connection, _ADD_BATCH, batch.client, batch.first, batch.size, batch.queue, ids)


def _remove_rows(connection: Connection, batches: Iterable[Batch]) -> None:
    long, short = _parted(chain.from_iterable(batch.ranges for batch in batches))
    for first, last in long:
        execute(connection, _REMOVE_RANGE, first, last)
    if short:
        execute(connection, _REMOVE_ROWS, tuple(short))


def _parted(ids: Iterable[Range]) -> tuple[list[Range], list[int]]:
    """Return the long ranges, and the ids outside of them."""
    merged = merge(ids)
    long = [each for each in merged if each[1] - each[0] >= _LONG]
    short = [
        each for first, last in merged if last - first < _LONG for each in range(first, last + 1)
    ]
    return long, short


def _away(error: ServerError, database: Database) -> LedgerAway | Permanent:
    if error.code == ER.NO_SUCH_TABLE:
        # As in the worker: the migration is probably about to run.
        return LedgerAway(f"{database} has no table for the outbox; waiting for 'worker migrate'")
    if error.code == ER.DUP_ENTRY:
        return LedgerAway(f"{error}; starting over")
    return error if isinstance(error, Permanent) else LedgerAway(str(error), code=error.code)
