"""What befalls a worker while its handler is in the middle of a request."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator

import pymysql

from lab.trial.faults import ON, PATIENCE, WAIT, Course, Stage, fault
from lab.trial.members import Member
from lab.trial.network import Shape
from lab.trial.rig import AFTER_RETURN, AFTER_STATEMENT
from lab.trial.world import World

_BREATH = 40
"""Ticks: two seconds."""

_ROW = "SELECT 1 FROM requests WHERE client = %s AND counter = %s"
_DEADLOCKS = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"


def _held(world: World, worker: Member, where: str) -> Generator[Stage, None, str]:
    """Have the worker's handler wait in the middle; return the request that it has in hand."""
    rig = world.rig(worker)
    while not worker.process.alive() or worker.frozen_holds or (rig / "hold").exists():
        yield WAIT
    (rig / "held").unlink(missing_ok=True)
    (rig / "hold").write_text(where)
    while not (request := _holds(world, worker)):
        yield WAIT
    return request


def _holds(world: World, worker: Member) -> str:
    """Return the request in whose midst the worker waits now; empty if it does not."""
    with contextlib.suppress(OSError):
        pid, _, request = (world.rig(worker) / "held").read_text().partition(" ")
        if worker.process.alive() and pid == str(worker.process.pid):
            return request
    return ""


def _let_go(world: World, worker: Member) -> None:
    rig = world.rig(worker)
    (rig / "hold").unlink(missing_ok=True)
    (rig / "held").unlink(missing_ok=True)


@fault("handler.kill")
def _kill(world: World, pick: int) -> Course:
    """Killed when its work is done, and before COMMIT."""
    worker = world.workers[pick % len(world.workers)]
    try:
        request = yield from _held(world, worker, AFTER_RETURN)
        before, ends = worker.process.identity(), len(worker.ends)
        worker.order_end(-signal.SIGKILL)
        worker.process.signal(signal.SIGKILL)
        yield ON
        while len(worker.ends) == ends:
            yield WAIT
    finally:
        _let_go(world, worker)
    return f"{worker.name}: {before} killed with {request} handled and not committed"


@fault("handler.kill_after_commit")
def _kill_after_commit(world: World, pick: int) -> Course:
    """Killed when it has committed, and before its ack has arrived."""
    worker = world.workers[pick % len(world.workers)]
    link, shape = worker.links["broker"], Shape(hold=True)
    committed = False
    while not committed:
        try:
            request = yield from _held(world, worker, AFTER_RETURN)
            before, ends = worker.process.identity(), len(worker.ends)
            world.network.shape(link, link.up, shape)
            try:
                _let_go(world, worker)
                committed = yield from _is_committed(world, request)
                if committed and worker.process.identity() == before:
                    worker.order_end(-signal.SIGKILL)
                    worker.process.signal(signal.SIGKILL)
                    while len(worker.ends) == ends:
                        yield WAIT
                    link.cut()
                else:
                    committed = False
            finally:
                world.network.unshape(link, link.up, shape)
        finally:
            _let_go(world, worker)
    yield ON
    return f"{worker.name}: {before} killed with {request} committed and not acked"


def _is_committed(world: World, request: str) -> Generator[Stage, None, bool]:
    """Wait for the request's row; False if it does not come soon: something else has failed."""
    client, _, counter = request.rpartition("/")
    for _ in range(_BREATH):
        yield WAIT
        if world.database.is_whole():
            with (
                contextlib.suppress(pymysql.Error),
                world.servers.database.connect(world.name, timeout=2) as cursor,
            ):
                cursor.execute(_ROW, (client, int(counter)))
                if cursor.fetchall():
                    return True
    return False


@fault("handler.freeze", 9, 14)
def _freeze(world: World, pick: int) -> Course:
    """Frozen in mid-handler for longer than the broker waits; then it goes on: a zombie."""
    worker = world.workers[pick % len(world.workers)]
    request = yield from _held(world, worker, AFTER_STATEMENT)
    before = worker.process.identity()
    worker.frozen_holds += 1
    worker.process.pause()
    try:
        while worker.process.identity() == before and worker.state != "T":
            yield WAIT
        yield ON
        state = worker.state
    finally:
        _let_go(world, worker)
        worker.frozen_holds -= 1
        if not worker.frozen_holds:
            worker.process.resume()
    if worker.process.identity() != before:
        return f"{worker.name}: {before} was frozen, and ended so"
    return f"{worker.name}: {before} in state {state} in the midst of {request}"


@fault("handler.kill_connections")
def _kill_connections(world: World, pick: int) -> Course:
    """The database ends the connection in mid-handler."""
    worker = world.workers[pick % len(world.workers)]
    killed = 0
    request = ""
    try:
        while not killed:
            request = yield from _held(world, worker, AFTER_STATEMENT)
            if world.database.is_whole():
                with (
                    contextlib.suppress(pymysql.Error),
                    world.servers.database.connect(world.name, timeout=4) as cursor,
                ):
                    killed = world.kill_worker_connections(cursor) if _holds(world, worker) else 0
            _let_go(world, worker)
            yield WAIT
        yield ON
        world.database.healed()
    finally:
        _let_go(world, worker)
    return f"{killed} connections killed, {worker.name} in the midst of {request}"


@fault("handler.deadlock")
def _deadlock(world: World, pick: int) -> Course:
    """Another writer, whose transaction weighs more, holds what the handler wants next.

    The handler has one account locked. The other writer takes all others, and then wants that one.
    """
    while world.held["locks"]:
        yield WAIT
    world.held["locks"] += 1
    worker = world.workers[pick % len(world.workers)]
    deadlocks = 0
    try:
        while not deadlocks:
            yield from _held(world, worker, AFTER_STATEMENT)
            try:
                if world.database.is_whole():
                    with contextlib.suppress(pymysql.Error):
                        deadlocks = yield from _collide(world, worker)
            finally:
                _let_go(world, worker)
        yield ON
    finally:
        world.held["locks"] -= 1
    world.database.healed()
    return f"{deadlocks} deadlock(s), {worker.name} in mid-handler"


def _collide(world: World, worker: Member) -> Generator[Stage, None, int]:
    with (
        world.servers.database.connect(world.name, timeout=10) as cursor,
        world.servers.database.connect(world.name, timeout=4) as looker,
    ):
        looker.execute(_DEADLOCKS)
        before = int(looker.fetchall()[0][0])
        cursor.execute("BEGIN")
        cursor.execute("UPDATE ballast SET weight = weight + 1")
        cursor.execute("SELECT id FROM accounts ORDER BY id FOR UPDATE SKIP LOCKED")

        def want() -> None:
            with contextlib.suppress(pymysql.Error):
                cursor.execute("SELECT id FROM accounts FOR UPDATE")
                cursor.execute("ROLLBACK")

        wanting = threading.Thread(target=want, daemon=True)
        wanting.start()
        for _ in range(10):
            yield WAIT
        _let_go(world, worker)
        for _ in range(PATIENCE):
            if not wanting.is_alive():
                break
            yield WAIT
        looker.execute(_DEADLOCKS)
        return int(looker.fetchall()[0][0]) - before
