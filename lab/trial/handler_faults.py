"""Faults of a worker while its handler is working on a request."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from typing import Self

import pymysql

from lab.trial.faults import ON, PATIENCE, WAIT, Course, Stage, fault
from lab.trial.freezing import freeze
from lab.trial.members import Member
from lab.trial.network import Shape
from lab.trial.rig import AFTER_RETURN, AFTER_STATEMENT
from lab.trial.world import World

_BREATH = 40
"""Ticks: two seconds."""

_ROW = "SELECT 1 FROM requests WHERE client = %s AND counter = %s"
_DEADLOCKS = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"


class _Hold:
    """A fault's hold on a worker's handler. Another fault waits until this one releases it."""

    def __init__(self, world: World, worker: Member) -> None:
        self._rig = world.rig(worker)
        self._worker = worker
        self._ours = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def take(self, where: str) -> Generator[Stage, None, str]:
        """Make the handler wait at a point of its work; return the request that it works on."""
        hold = self._rig / "hold"
        while not self._worker.process.alive() or self._worker.frozen_holds or hold.exists():
            yield WAIT
        (self._rig / "held").unlink(missing_ok=True)
        hold.write_text(where)
        self._ours = True
        while not (request := self.request):
            yield WAIT
        return request

    @property
    def request(self) -> str:
        """The request at which the worker waits now; empty if it does not wait."""
        with contextlib.suppress(OSError):
            pid, _, request = (self._rig / "held").read_text().partition(" ")
            if self._worker.process.alive() and pid == str(self._worker.process.pid):
                return request
        return ""

    def let_go(self) -> None:
        """Let the handler continue."""
        if self._ours:
            self._ours = False
            (self._rig / "hold").unlink(missing_ok=True)
            (self._rig / "held").unlink(missing_ok=True)


@fault("handler.kill")
def _kill(world: World, pick: int) -> Course:
    """Kill the worker after the handler's work and before COMMIT."""
    worker = world.workers[pick % len(world.workers)]
    with _Hold(world, worker) as hold:
        request = yield from hold.take(AFTER_RETURN)
        before, ends = worker.process.identity(), len(worker.ends)
        worker.order_end(-signal.SIGKILL)
        worker.process.signal(signal.SIGKILL)
        yield ON
        while len(worker.ends) == ends:
            yield WAIT
    return f"{worker.name}: {before} killed with {request} handled and not committed"


@fault("handler.kill_after_commit")
def _kill_after_commit(world: World, pick: int) -> Course:
    """Kill the worker after its commit and before its ack has arrived."""
    worker = world.workers[pick % len(world.workers)]
    link, shape = worker.links["broker"], Shape(hold=True)
    committed = False
    while not committed:
        with _Hold(world, worker) as hold:
            request = yield from hold.take(AFTER_RETURN)
            before, ends = worker.process.identity(), len(worker.ends)
            world.network.shape(link, link.up, shape)
            try:
                hold.let_go()
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
    yield ON
    return f"{worker.name}: {before} killed with {request} committed and not acked"


def _is_committed(world: World, request: str) -> Generator[Stage, None, bool]:
    """Wait for the request's row; return False if it does not come soon: something else failed."""
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
    """Freeze the worker during its handler for longer than the broker waits, then resume it."""
    worker = world.workers[pick % len(world.workers)]
    with _Hold(world, worker) as hold:
        request = yield from hold.take(AFTER_STATEMENT)
        proof = yield from freeze(worker)
    return proof and f"{proof}, during {request}"


@fault("handler.kill_connections")
def _kill_connections(world: World, pick: int) -> Course:
    """Have the database end the connection during the handler."""
    worker = world.workers[pick % len(world.workers)]
    killed = 0
    request = ""
    while not killed:
        with _Hold(world, worker) as hold:
            request = yield from hold.take(AFTER_STATEMENT)
            if world.database.is_whole():
                with (
                    contextlib.suppress(pymysql.Error),
                    world.servers.database.connect(world.name, timeout=4) as cursor,
                ):
                    killed = world.kill_worker_connections(cursor) if hold.request else 0
        yield WAIT
    yield ON
    world.database.healed()
    return f"{killed} connections killed, {worker.name} during {request}"


@fault("handler.deadlock")
def _deadlock(world: World, pick: int) -> Course:
    """Deadlock the handler with another writer, whose transaction weighs more.

    The handler has locked one account. The other writer locks all others, and then waits for it.
    """
    while world.held["locks"]:
        yield WAIT
    world.held["locks"] += 1
    worker = world.workers[pick % len(world.workers)]
    deadlocks = 0
    try:
        while not deadlocks:
            with _Hold(world, worker) as hold:
                yield from hold.take(AFTER_STATEMENT)
                if world.database.is_whole():
                    with contextlib.suppress(pymysql.Error):
                        deadlocks = yield from _collide(world, hold)
            yield WAIT
        yield ON
    finally:
        world.held["locks"] -= 1
    world.database.healed()
    return f"{deadlocks} deadlock(s), {worker.name} during its handler"


def _collide(world: World, hold: _Hold) -> Generator[Stage, None, int]:
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
        hold.let_go()
        for _ in range(PATIENCE):
            if not wanting.is_alive():
                break
            yield WAIT
        looker.execute(_DEADLOCKS)
        return int(looker.fetchall()[0][0]) - before
