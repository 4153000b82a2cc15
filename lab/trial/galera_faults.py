"""Faults of one database node of three: its process, and its replication."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

import pymysql

from lab.trial import turns
from lab.trial.courses import background
from lab.trial.database_faults import HOLD_INSERTS, until_waiting
from lab.trial.faults import ON, WAIT, Course, Stage, fault
from lab.trial.server_faults import freeze, restart
from lab.trial.world import World

_COMMITS = 10
"""The number of commits by which a node must lag to count as behind."""

_SOON = 20
"""Ticks: a worker waits for a lock for some seconds."""

_READ_ONLY = 1290


def _name(world: World, place: int) -> str:
    return f"database-{world.trio.databases[place].number}"


@fault("node.writer_kill", 0, 8)
def _kill_writer(world: World, _pick: int) -> Course:
    return (yield from turns.databases(world, lambda at: restart(world.databases[at], kill=True)))


@fault("node.writer_restart", 0, 8)
def _restart_writer(world: World, _pick: int) -> Course:
    return (yield from turns.databases(world, lambda at: restart(world.databases[at], kill=False)))


@fault("node.writer_freeze", 6, 15)
def _freeze_writer(world: World, _pick: int) -> Course:
    return (yield from turns.databases(world, lambda at: freeze(world.databases[at])))


@fault("node.writer_moved", 4, 10)
def _move_writer(world: World, _pick: int) -> Course:
    """A planned fail-over: the writer becomes read-only, and connections move to another node."""

    def befall(at: int) -> Course:
        old, others = world.trio.databases[at], _others(world, at)
        with old.connect(world.name, timeout=5) as cursor:
            cursor.execute("SET GLOBAL read_only = 1")
        try:
            world.trio.move_writer(others[0])
            while not (served_by := [to for to in others if turns.connected(world, to) > 0]):
                yield WAIT
            yield ON
            refused = world.refusal("DELETE FROM audits WHERE client = ''", old.port)
        finally:
            with old.connect(world.name, timeout=5) as cursor:
                cursor.execute("SET GLOBAL read_only = 0")
        world.databases[at].healed()
        if refused != _READ_ONLY:
            return None
        took = ", ".join(_name(world, to) for to in served_by)
        return f"{_name(world, at)} refused a write with {refused}; {took} took the connections"

    return (yield from turns.databases(world, befall))


@fault("node.desynchronised", 12, 18)
def _desynchronise(world: World, _pick: int) -> Course:
    """The writer neither applies nor commits anything, and the others do not wait for it."""

    def befall(at: int) -> Course:
        with contextlib.ExitStack() as stack:
            unlock = yield from _stop_applying(world, at, stack)
            yield ON
            while not (behind := _behind(world, at)):
                yield WAIT
            unlock()
        world.databases[at].healed()
        return f"{_name(world, at)} was {behind} commits behind the others"

    return (yield from turns.databases(world, befall))


@fault("node.applier_behind")
def _fall_behind(world: World, _pick: int) -> Course:
    """Workers move to nodes that have yet to apply the commits of the node they leave."""

    def befall(at: int) -> Course:
        others = _others(world, at)
        with contextlib.ExitStack() as stack:
            unlocks = []
            for to in others:
                unlock = yield from _stop_applying(world, to, stack)
                unlocks.append(unlock)
            while (behind := min(_behind(world, to) for to in others)) < _COMMITS:
                yield WAIT
            with world.trio.databases[at].connect(timeout=10) as cursor:
                killed = world.kill_worker_connections(cursor)
            yield ON
            for unlock in unlocks:
                unlock()
        world.databases[at].healed()
        return f"{killed} connections were sent to nodes that were {behind} commits behind"

    return (yield from turns.databases(world, befall))


@fault("node.conflict")
def _conflict(world: World, _pick: int) -> Course:
    """Another node writes what a worker's open transaction has read, which aborts the latter."""

    def befall(at: int) -> Course:
        [other, *_] = _others(world, at)
        before, conflicts = _conflicts(world, at), 0
        while conflicts <= 0:
            yield WAIT
            # Any of these statements may be aborted instead.
            with (
                contextlib.suppress(pymysql.Error),
                world.trio.databases[at].connect(world.name, timeout=10) as cursor,
            ):
                cursor.execute("BEGIN")
                cursor.execute(HOLD_INSERTS)
                if (yield from until_waiting(cursor)):
                    _commit_over(world, other)
                    for _ in range(_SOON):
                        if (conflicts := _conflicts(world, at) - before) > 0:
                            break
                        yield WAIT
                cursor.execute("ROLLBACK")
        yield ON
        world.databases[at].healed()
        return f"{_name(world, at)} aborted {conflicts} transaction(s) for another node's"

    return (yield from turns.databases(world, befall))


def _commit_over(world: World, at: int) -> None:
    """Write the row that each of the workers' inserts reads."""
    with world.trio.databases[at].connect(world.name, timeout=10) as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT epoch FROM prune_epoch FOR UPDATE")
        [(epoch,)] = cursor.fetchall()
        # Delete and insert, since an update to the same value writes nothing.
        cursor.execute("DELETE FROM prune_epoch")
        cursor.execute("INSERT INTO prune_epoch (epoch) VALUES (%s)", (epoch,))
        cursor.execute("COMMIT")


def _others(world: World, at: int) -> list[int]:
    return [place for place in range(len(world.databases)) if place != at]


def _behind(world: World, at: int) -> int:
    """Return how many commits a node has yet to apply."""
    committed = [
        turns.status(world, place, "wsrep_last_committed") for place in range(len(world.databases))
    ]
    return max(committed) - committed[at] if committed[at] >= 0 else 0


def _conflicts(world: World, at: int) -> int:
    return sum(
        turns.status(world, at, name)
        for name in ("wsrep_local_bf_aborts", "wsrep_local_cert_failures")
    )


def _stop_applying(
    world: World, at: int, stack: contextlib.ExitStack
) -> Generator[Stage, None, Callable[[], object]]:
    """Stop a node from applying and committing, without the others waiting; return what resumes it.

    Closing ``stack`` resumes it too.
    """
    cursor = stack.enter_context(world.trio.databases[at].connect(timeout=60))
    desynchronised = False
    while not desynchronised:
        try:
            cursor.execute("SET GLOBAL wsrep_desync = ON")
            desynchronised = True
        except pymysql.OperationalError:
            yield WAIT  # another node gets from it what it lacks
    stack.callback(cursor.execute, "SET GLOBAL wsrep_desync = OFF")
    yield from background(lambda: cursor.execute("FLUSH TABLES WITH READ LOCK"))
    stack.callback(cursor.execute, "UNLOCK TABLES")
    return lambda: cursor.execute("UNLOCK TABLES")
