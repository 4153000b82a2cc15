"""What befalls RabbitMQ and the database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pymysql
from pika import frame, spec

from lab.errors import LabError
from lab.rabbitmq import MEMORY_WATERMARK
from lab.trial.faults import ON, WAIT, Course, Stage, fault
from lab.trial.members import Member, last_events
from lab.trial.world import ServerState, World
from turnwise.topology import Topology

_DISK_LIMIT = "100MB"
_ADMIN_TIMEOUT = 4.0
_PATIENCE = 400
"""Ticks that a fault waits for what should be seen soon."""


def _restart(server: ServerState, *, kill: bool) -> Course:
    while not server.server.runner.alive():
        yield WAIT
    before = server.server.runner.identity()
    server.down_holds += 1
    server.gone()
    try:
        if kill:
            server.server.kill()
        else:
            server.begin_stop()
        while server.server.runner.identity() == before and server.server.runner.alive():
            yield WAIT
        yield ON
    finally:
        server.down_holds -= 1
    while not (server.is_whole() and server.server.runner.alive()):
        yield WAIT
    return f"{before} ended, now {server.server.runner.identity()}"


def _freeze(server: ServerState) -> Course:
    while not (server.is_whole() and server.server.runner.alive()):
        yield WAIT
    before = server.server.runner.identity()
    server.frozen_holds += 1
    server.gone()
    server.server.runner.pause()
    try:
        silent = not server.greets()
        yield ON
    finally:
        server.frozen_holds -= 1
        if not server.frozen_holds:
            server.server.runner.resume()
    return f"{before} was frozen and did not greet" if silent else None


@fault("broker.kill", 0, 3)
def _kill_broker(world: World, _pick: int) -> Course:
    return (yield from _restart(world.broker, kill=True))


@fault("broker.restart", 0, 3)
def _restart_broker(world: World, _pick: int) -> Course:
    return (yield from _restart(world.broker, kill=False))


@fault("broker.freeze", 2, 14)
def _freeze_broker(world: World, _pick: int) -> Course:
    return (yield from _freeze(world.broker))


@fault("broker.close_connections")
def _close_connections(world: World, _pick: int) -> Course:
    """As an operator does it in the management UI."""
    closed = 0
    while not closed:
        yield WAIT
        if not world.broker.is_whole():
            continue
        with contextlib.suppress(LabError):
            for connection in world.servers.rabbitmq.api("GET", f"vhosts/{world.name}/connections"):
                with contextlib.suppress(LabError):  # gone by itself
                    path = f"connections/{quote(connection['name'], safe='')}"
                    world.servers.rabbitmq.api("DELETE", path)
                    closed += 1
    yield ON
    world.broker.healed()
    return f"{closed} connections closed"


def _consumer_channel(world: World, worker: Member) -> int | None:
    """Return the number of the channel that a worker consumes on, if it does."""
    with contextlib.suppress(LabError):
        for consumer in world.servers.rabbitmq.api("GET", f"consumers/{world.name}"):
            if consumer["consumer_tag"] == worker.name:
                return int(consumer["channel_details"]["number"])
    return None


def _say(world: World, worker: Member, make: Callable[[int], bytes], *, down: bool) -> Course:
    """Say something in the midst of a worker's connection; the worker tells what came of it."""
    said = 0
    while not said:
        yield WAIT
        if not world.broker.is_whole():
            continue
        number = _consumer_channel(world, worker)
        if number is not None:
            said = worker.links["broker"].inject(make(number), down=down)
    before, starts = _losses(worker), worker.starts
    yield ON
    for _ in range(_PATIENCE):
        if _losses(worker) != before or worker.starts != starts:
            return f"{worker.name}: said on {said} connection(s), and lost"
        yield WAIT
    return None


def _losses(worker: Member) -> list[object]:
    return [e["time"] for e in last_events(worker.process) if e.get("event") == "broker.away"]


@fault("broker.close_channel")
def _close_channel(world: World, pick: int) -> Course:
    """An ack of a delivery that never was: the broker closes the channel, and only that."""
    worker = world.workers[pick % len(world.workers)]
    ack = spec.Basic.Ack(delivery_tag=2**60)
    return (yield from _say(world, worker, lambda n: frame.Method(n, ack).marshal(), down=False))


@fault("broker.cancel_consumer")
def _cancel_consumer(world: World, pick: int) -> Course:
    """As a broker does when a queue's leader moves, or an ack takes too long."""
    worker = world.workers[pick % len(world.workers)]
    cancel = spec.Basic.Cancel(consumer_tag=worker.name, nowait=True)
    return (yield from _say(world, worker, lambda n: frame.Method(n, cancel).marshal(), down=True))


def _ctl(world: World, words: list[str]) -> Generator[Stage, None, bool]:
    """Run rabbitmqctl beside everything else: it takes a second to start."""
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(world.servers.rabbitmq.ctl, *words)
        while not run.done():
            yield WAIT
    with contextlib.suppress(LabError):
        run.result()
        return True
    return False


def _alarm(world: World, sign: str, on: list[str], off: list[str]) -> Course:
    def seen() -> bool:
        with contextlib.suppress(LabError):
            return world.broker.is_whole() and any(
                node.get(sign) for node in world.servers.rabbitmq.api("GET", "nodes")
            )
        return False

    world.held[sign] += 1
    try:
        while not seen():
            # A broker that was restarted meanwhile has forgotten it.
            if world.broker.is_whole():
                yield from _ctl(world, on)
            yield WAIT
        yield ON
    finally:
        world.held[sign] -= 1
    while not world.held[sign]:
        if world.broker.is_whole() and (yield from _ctl(world, off)):
            world.broker.healed()
            break
        yield WAIT
    return f"{sign} was raised"


@fault("broker.memory_alarm", 2, 6)
def _memory_alarm(world: World, _pick: int) -> Course:
    words = ["set_vm_memory_high_watermark", "absolute"]
    return (yield from _alarm(world, "mem_alarm", [*words, "1MB"], [*words, MEMORY_WATERMARK]))


@fault("broker.disk_alarm", 2, 6)
def _disk_alarm(world: World, _pick: int) -> Course:
    words = ["set_disk_free_limit"]
    return (
        yield from _alarm(world, "disk_free_alarm", [*words, "1000000GB"], [*words, _DISK_LIMIT])
    )


@fault("broker.unroute")
def _unroute(world: World, _pick: int) -> Course:
    """The exchange loses its queue: what is published now is confirmed, and goes nowhere."""
    queue = Topology().queue
    path = f"bindings/{world.name}/e/{queue}/q/{queue}"
    gone = False
    while not gone:
        yield WAIT
        if world.broker.is_whole():
            with contextlib.suppress(LabError):
                world.servers.rabbitmq.api("DELETE", f"{path}/{queue}")
                gone = not world.servers.rabbitmq.api("GET", path)
    yield ON
    return "the binding was gone"


# -- the database


@contextlib.contextmanager
def _admin(world: World) -> Iterator[pymysql.cursors.Cursor]:
    # Another fault may freeze it in between, and this is who would have to thaw it.
    with world.servers.database.connect(world.name, timeout=_ADMIN_TIMEOUT) as cursor:
        yield cursor


def _count(cursor: pymysql.cursors.Cursor, statement: str, *values: object) -> int:
    cursor.execute(statement, values)
    row = cursor.fetchone()
    return int(row[0]) if row else 0


@fault("database.kill", 0, 3)
def _kill_database(world: World, _pick: int) -> Course:
    return (yield from _restart(world.database, kill=True))


@fault("database.freeze", 2, 14)
def _freeze_database(world: World, _pick: int) -> Course:
    """It stops in mid-commit."""
    return (yield from _freeze(world.database))


@fault("database.kill_connections")
def _kill_connections(world: World, _pick: int) -> Course:
    killed = 0
    while not killed:
        yield WAIT
        if world.database.is_whole():
            with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
                killed = world.kill_worker_connections(cursor)
    yield ON
    world.database.healed()
    return f"{killed} connections killed"


@fault("database.read_only", 2, 6)
def _read_only(world: World, _pick: int) -> Course:
    """As after a fail-over that the connections outlived."""
    world.held["read_only"] += 1
    refused = 0
    try:
        while not refused:
            yield WAIT
            if not world.database.is_whole():
                continue
            with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
                cursor.execute("SET GLOBAL read_only = 1")
                refused = world.refusal("DELETE FROM audits WHERE client = ''")
        yield ON
    finally:
        world.held["read_only"] -= 1
    while not world.held["read_only"]:
        if world.database.is_whole():
            with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
                cursor.execute("SET GLOBAL read_only = 0")
                world.database.healed()
                break
        yield WAIT
    return f"a write was refused with {refused}"


@fault("database.too_many_connections", 2, 6)
def _too_many_connections(world: World, _pick: int) -> Course:
    world.held["max_connections"] += 1
    full = 0
    with contextlib.ExitStack() as guests:
        try:
            while not full:
                yield WAIT
                if not world.database.is_whole():
                    continue
                with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
                    cursor.execute("SET GLOBAL max_connections = 10")
                    world.kill_worker_connections(cursor)
                    full = _fill(world, guests)
            yield ON
        finally:
            world.held["max_connections"] -= 1
    while not world.held["max_connections"]:
        if world.database.is_whole():
            with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
                cursor.execute("SET GLOBAL max_connections = 151")
                world.database.healed()
                break
        yield WAIT
    return f"a login was refused with {full}"


def _fill(world: World, guests: contextlib.ExitStack) -> int:
    """Open connections until one is refused; return the error's number."""
    while True:
        try:
            guests.enter_context(_lenient(world))
        except pymysql.err.OperationalError as error:
            return int(error.args[0]) if error.args[0] in {1040, 1203} else 0


@contextlib.contextmanager
def _lenient(world: World) -> Iterator[None]:
    """A connection whose end is of no interest: the server may have gone before."""
    connection = world.as_worker()
    try:
        yield
    finally:
        with contextlib.suppress(pymysql.Error, OSError):
            connection.close()


@fault("database.lock_wait", 6, 8)
def _lock_wait(world: World, _pick: int) -> Course:
    """Every insert waits for a lock, longer than it may (1205)."""
    waits = 0
    while waits == 0:
        yield WAIT
        if not world.database.is_whole():
            continue
        with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
            cursor.execute("BEGIN")
            cursor.execute(_HOLD_INSERTS)
            waits = yield from _until_waiting(cursor)
            yield ON
    world.database.healed()
    return f"{waits} transaction(s) waited for a lock"


@fault("database.deadlock")
def _deadlock(world: World, _pick: int) -> Course:
    """A transaction that weighs more is in the way: the worker is the victim (1213)."""
    deadlocks = 0
    while deadlocks == 0:
        yield WAIT
        if not world.database.is_whole():
            continue
        with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
            before = _count(cursor, _DEADLOCKS)
            cursor.execute("BEGIN")
            cursor.execute("UPDATE ballast SET weight = weight + 1")
            cursor.execute(_HOLD_INSERTS)
            yield from _until_waiting(cursor)
            # The row that waits for its place in one index is locked in the other.
            cursor.execute("SELECT COUNT(*) FROM requests FOR UPDATE")
            cursor.execute("ROLLBACK")
            deadlocks = _count(cursor, _DEADLOCKS) - before
    yield ON
    world.database.healed()
    return f"{deadlocks} deadlock(s)"


def _until_waiting(cursor: pymysql.cursors.Cursor) -> Generator[Stage, None, int]:
    """Wait until a transaction waits for a lock; return how many do."""
    for _ in range(_PATIENCE):
        waits = _count(cursor, _WAITING)
        if waits:
            return waits
        yield WAIT
    return 0


# Every new row has to go to the end of the index of times.
_HOLD_INSERTS = (
    "SELECT COUNT(*) FROM requests FORCE INDEX (served) WHERE served_at > '2100-01-01' FOR UPDATE"
)
_WAITING = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
_DEADLOCKS = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"
