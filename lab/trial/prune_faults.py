"""Faults that remove old rows while requests that were served long ago are repeated."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime

import pika
import pymysql
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from lab.harness.process import Process
from lab.trial.faults import ON, PATIENCE, WAIT, Course, Stage, fault
from lab.trial.network import HEARTBEAT
from lab.trial.removed import put_aside
from lab.trial.world import World
from turnwise.message import Request
from turnwise.topology import Topology

_OLDER_THAN = 10
"""Seconds. Rows served more recently are not counted yet, and are never removed."""

_AGE = _OLDER_THAN + 2
"""The least seconds since a repeated request was served."""

_FEWEST, _MOST = 20, 100
"""The number of requests that are repeated."""

_PAUSE = 0.01
"""Seconds between two repeats."""

_BACKLOG = 100
"""The length of the queue from which no repeat is added: a slow machine would never serve them."""

_AT_ONCE = 20
"""Repeats between two looks at the queue."""

_BREATH = 10
"""Ticks: half a second."""

_LOOK_EVERY = 4
"""Ticks; polling more often shows the same copy (lab/trial/database_faults.py)."""

_TIMEOUT = 4.0
"""Seconds to wait for an answer of the database."""

_OLDEST = (
    "SELECT client, counter, message, sent_at FROM requests"
    " WHERE served_at < UTC_TIMESTAMP(6) - INTERVAL %s SECOND ORDER BY served_at LIMIT %s"
)
_NEWEST = (
    "SELECT client, counter, message, sent_at, deliveries FROM requests"
    " ORDER BY served_at DESC LIMIT 1"
)
_DELIVERIES = (
    "SELECT MAX(deliveries) FROM (SELECT client, counter, deliveries FROM requests"
    " UNION ALL SELECT client, counter, deliveries FROM removed) AS stored"
    " WHERE client = %s AND counter = %s"
)
_REMOVED = "SELECT client, counter FROM removed"
_NUMBERS = itertools.count(1)
"""Two prunes may run at the same time, each as a process of its own name."""

# The prune connected after the connection that runs this.
_WAITS = (
    "SELECT COUNT(*) FROM information_schema.innodb_trx"
    " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
    " WHERE trx_state = 'LOCK WAIT' AND db = %s AND id > CONNECTION_ID() AND trx_query LIKE %s"
)
_BEFORE_LINE = "UPDATE prune_epoch %"
_BEFORE_DELETION = "SELECT client, counter, served_by FROM requests WHERE %"
# Shared, as workers' writes lock it, so they continue until the prune's wait blocks them.
_HOLD_LINES = "SELECT epoch FROM prune_epoch LOCK IN SHARE MODE"
_HOLD_ROW = "SELECT 1 FROM requests WHERE client = %s AND counter = %s FOR UPDATE"


class _Repeats(threading.Thread):
    """Repeats old requests, round after round, until ``end()``."""

    def __init__(self, world: World, requests: Sequence[Request]) -> None:
        super().__init__(name="old repeats", daemon=True)
        self.requests = requests
        self.confirmed = 0
        self._marker: Request | None = None
        self._world = world
        self._over = threading.Event()

    def mark(self, marker: Request) -> None:
        """Publish this request next."""
        self._marker = marker

    def is_marked(self) -> bool:
        """Return whether the marker is confirmed."""
        return self._marker is None

    def end(self) -> None:
        """Publish nothing further."""
        self._over.set()

    def run(self) -> None:
        """Publish, and reconnect whenever the broker fails."""
        url = self._world.servers.rabbitmq.url(self._world.name)
        parameters = pika.URLParameters(f"{url}?heartbeat={HEARTBEAT}")
        parameters.blocked_connection_timeout = HEARTBEAT
        parameters.socket_timeout = HEARTBEAT
        while not self._over.wait(_PAUSE):
            with (
                contextlib.suppress(AMQPError, OSError),
                pika.BlockingConnection(parameters) as connection,
            ):
                channel = connection.channel()
                channel.confirm_delivery()
                self._publish(channel)

    def _publish(self, channel: BlockingChannel) -> None:
        for number, request in enumerate(itertools.cycle(self.requests)):
            while number % _AT_ONCE == 0 and _ready(channel) > _BACKLOG:
                if self._over.wait(_PAUSE * _AT_ONCE):
                    return
            if self._over.wait(_PAUSE):
                return
            marker = self._marker
            _put(channel, marker or request)
            if marker:
                self._marker = None
            else:
                self.confirmed += 1


def _ready(channel: BlockingChannel) -> int:
    return int(channel.queue_declare(Topology().queue, passive=True).method.message_count)


def _put(channel: BlockingChannel, request: Request) -> None:
    topology = Topology()
    channel.basic_publish(
        topology.exchange, topology.queue, request.encode(), request.properties(), mandatory=True
    )


@fault("prune.run")
def _run(world: World, _pick: int) -> Course:
    """Run a prune to its end, and again only if the database was away."""
    with (yield from _repeating(world)) as repeats:
        yield from _finish(_prune(world))
        yield ON
        meanwhile = repeats.confirmed
        yield from _deliver_round(world, repeats)
        return (yield from _proof(world, repeats, meanwhile))


@fault("prune.kill")
def _kill(world: World, pick: int) -> Course:
    """Kill a prune just before it moves a line, or between that and the deletion."""
    at_line = pick % 2 == 0
    prune = _prune(world)
    with (yield from _repeating(world)) as repeats:
        while not (yield from _kill_in_the_middle(world, prune, repeats.requests, at_line)):
            yield WAIT
        yield ON
        yield from _deliver_round(world, repeats)
        yield from _finish(prune)
        meanwhile = repeats.confirmed
        yield from _deliver_round(world, repeats)
        proof = yield from _proof(world, repeats, meanwhile)
    where = "before its line" if at_line else "between its line and the deletion"
    return proof and f"killed {where}, then {proof}"


def _prune(world: World) -> Process:
    command = world.program(["worker", "prune", "--older-than", f"{_OLDER_THAN}s"])
    return Process(f"prune-{next(_NUMBERS)}", world.folder, command, world.environment)


def _repeating(world: World) -> Generator[Stage, None, contextlib.AbstractContextManager[_Repeats]]:
    """Wait until there are old rows; return the thread that repeats them."""
    while True:
        for _ in range(_BREATH):
            yield WAIT
        if not world.database.is_whole():
            continue
        with contextlib.suppress(pymysql.Error), _connected(world) as cursor:
            put_aside(cursor)
            cursor.execute(_OLDEST, (_AGE, _MOST))
            old = [_request(*row) for row in cursor.fetchall()]
            if len(old) >= _FEWEST:
                return _started(_Repeats(world, old))


@contextlib.contextmanager
def _started(repeats: _Repeats) -> Iterator[_Repeats]:
    repeats.start()
    try:
        yield repeats
    finally:
        repeats.end()


def _finish(prune: Process) -> Generator[Stage, None, None]:
    """Run the prune until it succeeds."""
    try:
        while True:
            prune.start()
            while prune.alive():
                yield WAIT
            if prune.wait(1) == 0:
                return
            for _ in range(_BREATH):
                yield WAIT
    finally:
        prune.kill()


def _kill_in_the_middle(
    world: World, prune: Process, old: Sequence[Request], at_line: bool
) -> Generator[Stage, None, bool]:
    """Lock the row that the prune needs next, and kill it while it waits; return whether it did."""
    if not world.database.is_whole():
        return False
    place = _BEFORE_LINE if at_line else _BEFORE_DELETION
    try:
        with (
            contextlib.suppress(pymysql.Error),
            _connected(world) as holder,
            _connected(world) as looker,
        ):
            holder.execute("BEGIN")
            if at_line:
                holder.execute(_HOLD_LINES)
            else:
                # Not a row that is repeated, since the worker that holds it would wait as well.
                looker.execute(_OLDEST, (_AGE, 2 * _MOST))
                rows = [(client, counter) for client, counter, *_ in looker.fetchall()]
                repeated = {(request.client, request.counter) for request in old}
                rows.sort(key=repeated.__contains__)
                if not rows:
                    return False
                holder.execute(_HOLD_ROW, rows[0])
            if not holder.fetchall():
                # Another prune has removed the row meanwhile.
                return False
            prune.start()
            while prune.alive():
                for _ in range(_LOOK_EVERY):
                    yield WAIT
                looker.execute(_WAITS, (world.name, place))
                if looker.fetchall()[0][0]:
                    prune.kill()
                    return True
    finally:
        prune.kill()
    return False


def _deliver_round(world: World, repeats: _Repeats) -> Generator[Stage, None, None]:
    """Wait until all old requests were published once more, and delivered.

    The queue is first in, first out: they were delivered once a later repeat of a new row was.
    """
    enough = repeats.confirmed + len(repeats.requests)
    while repeats.confirmed < enough:
        yield WAIT
    while True:
        with contextlib.suppress(pymysql.Error):
            with _connected(world) as cursor:
                cursor.execute(_NEWEST)
                *fields, before = cursor.fetchall()[0]
            marker = _request(*fields)
            repeats.mark(marker)
            for _ in range(PATIENCE // _BREATH):
                for _ in range(_BREATH):
                    yield WAIT
                with _connected(world) as cursor:
                    cursor.execute(_DELIVERIES, (marker.client, marker.counter))
                    if repeats.is_marked() and cursor.fetchall()[0][0] > before:
                        return
        yield WAIT


def _proof(world: World, repeats: _Repeats, meanwhile: int) -> Generator[Stage, None, str | None]:
    delivered = repeats.confirmed - meanwhile
    while True:
        with contextlib.suppress(pymysql.Error), _connected(world) as cursor:
            cursor.execute(_REMOVED)
            removed = set(cursor.fetchall())
            break
        yield WAIT
    gone = sum((request.client, request.counter) in removed for request in repeats.requests)
    if not gone or not delivered:
        return None
    return (
        f"{len(removed):,} rows removed so far, {gone} of the {len(repeats.requests)} repeated"
        f" requests among them; {meanwhile} repeats during the prune, {delivered} after it"
    )


def _request(client: str, counter: int, message: str, sent_at: datetime) -> Request:
    return Request(client, counter, message, sent_at.replace(tzinfo=UTC))


@contextlib.contextmanager
def _connected(world: World) -> Iterator[pymysql.cursors.Cursor]:
    # Another fault may freeze the server meanwhile.
    with world.servers.database.connect(world.name, timeout=_TIMEOUT) as cursor:
        yield cursor
