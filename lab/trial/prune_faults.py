"""Old rows are removed while requests come that were served long ago."""

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
"""Seconds: rows that were served later are not counted yet, and none of them is removed."""

_AGE = _OLDER_THAN + 2
"""Seconds since what is repeated was served, at least."""

_FEWEST, _MOST = 20, 100
"""Requests that are repeated."""

_PAUSE = 0.01
"""Seconds between two repeats."""

_BACKLOG = 100
"""Messages in the queue with which no repeat is added: a slow machine would never get to them."""

_AT_ONCE = 20
"""Repeats between two looks at the queue."""

_BREATH = 10
"""Ticks: half a second."""

_LOOK_EVERY = 4
"""Ticks; InnoDB shows the same to whoever looks more often (lab/trial/database_faults.py)."""

_TIMEOUT = 4.0
"""Seconds that the database has for an answer."""

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
# The prune has connected after whoever looks here.
_WAITS = (
    "SELECT COUNT(*) FROM information_schema.innodb_trx"
    " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
    " WHERE trx_state = 'LOCK WAIT' AND db = %s AND id > CONNECTION_ID() AND trx_query LIKE %s"
)
_BEFORE_LINE = "UPDATE prune_epoch %"
_BEFORE_DELETION = "SELECT client, counter, served_by FROM requests WHERE %"
# Shared, as workers' writes lock it: they go on, until the prune waits in front of them.
_HOLD_LINES = "SELECT epoch FROM prune_epoch LOCK IN SHARE MODE"
_HOLD_ROW = "SELECT 1 FROM requests WHERE client = %s AND counter = %s FOR UPDATE"


class _Repeats(threading.Thread):
    """Publishes old requests again, one round after the other, until it is ended."""

    def __init__(self, world: World, requests: Sequence[Request]) -> None:
        super().__init__(name="old repeats", daemon=True)
        self.requests = requests
        self.confirmed = 0
        self._marker: Request | None = None
        self._world = world
        self._over = threading.Event()

    def mark(self, marker: Request) -> None:
        """Publish this one next."""
        self._marker = marker

    def is_marked(self) -> bool:
        """Whether that is confirmed."""
        return self._marker is None

    def end(self) -> None:
        """Publish nothing any more."""
        self._over.set()

    def run(self) -> None:
        """Go on whatever happens to the broker."""
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
def _run(world: World, pick: int) -> Course:
    """It ends by itself, and begins again only if the database was away."""
    with (yield from _repeating(world)) as repeats:
        yield from _finish(_prune(world, pick))
        yield ON
        meanwhile = repeats.confirmed
        yield from _deliver_round(world, repeats)
        return (yield from _proof(world, repeats, meanwhile))


@fault("prune.kill")
def _kill(world: World, pick: int) -> Course:
    """Killed where it is about to move a line, or has moved it and is about to delete."""
    at_line = pick % 2 == 0
    prune = _prune(world, pick)
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


def _prune(world: World, pick: int) -> Process:
    command = world.program(["worker", "prune", "--older-than", f"{_OLDER_THAN}s"])
    return Process(f"prune-{pick}", world.folder, command, world.environment)


def _repeating(world: World) -> Generator[Stage, None, contextlib.AbstractContextManager[_Repeats]]:
    """Wait until there are old rows; return what publishes them again."""
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
    """Have it run to a good end."""
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
    """Hold what it needs next, and kill it when it waits for that; return whether it did."""
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
                # Not one that is repeated: the worker that has it in hand would wait as well.
                looker.execute(_OLDEST, (_AGE, 2 * _MOST))
                rows = [(client, counter) for client, counter, *_ in looker.fetchall()]
                repeated = {(request.client, request.counter) for request in old}
                rows.sort(key=repeated.__contains__)
                if not rows:
                    return False
                holder.execute(_HOLD_ROW, rows[0])
            if not holder.fetchall():
                # Another prune has removed it meanwhile.
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
    """Wait until all old requests were published once more, and until they were delivered.

    The queue is first in, first out: they were when a repeat of a new row has come behind them.
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
        f"{len(removed):,} rows removed by now, {gone} of the {len(repeats.requests)} that were"
        f" repeated among them: {meanwhile} times meanwhile, {delivered} times after"
    )


def _request(client: str, counter: int, message: str, sent_at: datetime) -> Request:
    return Request(client, counter, message, sent_at.replace(tzinfo=UTC))


@contextlib.contextmanager
def _connected(world: World) -> Iterator[pymysql.cursors.Cursor]:
    # Another fault may freeze it in between.
    with world.servers.database.connect(world.name, timeout=_TIMEOUT) as cursor:
        yield cursor
