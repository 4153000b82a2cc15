"""Faults of the database."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import pymysql

from lab.trial.faults import ON, PATIENCE, WAIT, Course, Stage, fault
from lab.trial.server_faults import freeze, restart
from lab.trial.world import World

_ADMIN_TIMEOUT = 4.0
"""Seconds."""

_LOOK_EVERY = 4
"""Ticks. InnoDB shows its transactions from a cached copy, which it refreshes only if nobody has
read it for 100 ms: polling more often shows the same copy forever."""


@contextlib.contextmanager
def _admin(world: World) -> Iterator[pymysql.cursors.Cursor]:
    # Another fault may freeze the server meanwhile, and this process would have to resume it.
    with world.servers.database.connect(world.name, timeout=_ADMIN_TIMEOUT) as cursor:
        yield cursor


def _count(cursor: pymysql.cursors.Cursor, statement: str, *values: object) -> int:
    cursor.execute(statement, values)
    row = cursor.fetchone()
    return int(row[0]) if row else 0


@fault("database.kill", 0, 3)
def _kill_database(world: World, _pick: int) -> Course:
    return (yield from restart(world.database, kill=True))


@fault("database.freeze", 2, 14)
def _freeze_database(world: World, _pick: int) -> Course:
    """Freeze the server during commits."""
    return (yield from freeze(world.database))


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
    """Make the server read-only, as after a fail-over that connections survived."""
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
    """Open a connection and ignore errors when it closes: the server may be gone by then."""
    connection = world.as_worker()
    try:
        yield
    finally:
        with contextlib.suppress(pymysql.Error, OSError):
            connection.close()


@fault("database.lock_wait", 6, 8)
def _lock_wait(world: World, _pick: int) -> Course:
    """Make every insert wait for a lock for longer than its timeout (1205)."""
    return (yield from _one_at_a_time(world, "locks", _let_wait(world)))


def _let_wait(world: World) -> Course:
    waits = 0
    while not waits:
        yield WAIT
        if not world.database.is_whole():
            continue
        with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
            cursor.execute("BEGIN")
            cursor.execute(HOLD_INSERTS)
            waits = yield from until_waiting(cursor)
            if waits:
                yield ON
    world.database.healed()
    return f"{waits} transaction(s) waited for a lock"


@fault("database.deadlock")
def _deadlock(world: World, _pick: int) -> Course:
    """Block a worker with a heavier transaction, so that it is the deadlock's victim (1213)."""
    return (yield from _one_at_a_time(world, "locks", _let_lose(world)))


def _let_lose(world: World) -> Course:
    deadlocks = 0
    while not deadlocks:
        yield WAIT
        if not world.database.is_whole():
            continue
        with contextlib.suppress(pymysql.Error), _admin(world) as cursor:
            before = _count(cursor, _DEADLOCKS)
            cursor.execute("BEGIN")
            cursor.execute("UPDATE ballast SET weight = weight + 1")
            cursor.execute(HOLD_INSERTS)
            yield from until_waiting(cursor)
            # A row that waits for its place in one index is locked in the other.
            cursor.execute("SELECT COUNT(*) FROM requests FORCE INDEX (PRIMARY) FOR UPDATE")
            cursor.execute("ROLLBACK")
            deadlocks = _count(cursor, _DEADLOCKS) - before
    yield ON
    world.database.healed()
    return f"{deadlocks} deadlock(s)"


def _one_at_a_time(world: World, what: str, course: Course) -> Course:
    """Run a fault once no other of its kind runs, since they would wait for each other."""
    while world.held[what]:
        yield WAIT
    world.held[what] += 1
    try:
        return (yield from course)
    finally:
        world.held[what] -= 1


def until_waiting(cursor: pymysql.cursors.Cursor) -> Generator[Stage, None, int]:
    """Wait until a transaction waits for a lock; return the number of waiting transactions."""
    for tick in range(PATIENCE):
        if tick % _LOOK_EVERY == 0 and (waits := _count(cursor, _WAITING)):
            return waits
        yield WAIT
    return 0


# Every new row goes to the end of the index of times.
HOLD_INSERTS = (
    "SELECT COUNT(*) FROM requests FORCE INDEX (served) WHERE served_at > '2100-01-01' FOR UPDATE"
)
_WAITING = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
_DEADLOCKS = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"
