"""Faults of workers, clients, doors and relays."""

from __future__ import annotations

import signal
import subprocess

from lab.trial.faults import ON, WAIT, Course, fault
from lab.trial.freezing import freeze
from lab.trial.members import Member
from lab.trial.world import World
from turnwise.errors import ExitCode


def _end(member: Member, number: signal.Signals, code: int) -> Course:
    while not member.process.alive():
        yield WAIT
    before, ends = member.process.identity(), len(member.ends)
    member.order_end(code)
    member.process.signal(number)
    yield ON
    while len(member.ends) == ends or not member.process.alive():
        yield WAIT
    end = member.ends[ends]
    return f"{member.name}: {before} ended with {end.code}, now {member.process.identity()}"


@fault("worker.kill")
def _kill_worker(world: World, pick: int) -> Course:
    worker = world.workers[pick % len(world.workers)]
    return (yield from _end(worker, signal.SIGKILL, -signal.SIGKILL))


@fault("worker.term")
def _term_worker(world: World, pick: int) -> Course:
    worker = world.workers[pick % len(world.workers)]
    # One that has just been started has no handler yet.
    worker.order_end(-signal.SIGTERM)
    return (yield from _end(worker, signal.SIGTERM, ExitCode.OK))


@fault("worker.freeze", 9, 14)
def _freeze_worker(world: World, pick: int) -> Course:
    """Freeze a worker for longer than the broker waits: it resumes with dead delivery tags."""
    return (yield from freeze(world.workers[pick % len(world.workers)]))


@fault("door.kill")
def _kill_door(world: World, pick: int) -> Course:
    door = world.doors[pick % len(world.doors)]
    return (yield from _end(door, signal.SIGKILL, -signal.SIGKILL))


@fault("door.term")
def _term_door(world: World, pick: int) -> Course:
    door = world.doors[pick % len(world.doors)]
    # One that has just been started has no handler yet.
    door.order_end(-signal.SIGTERM)
    return (yield from _end(door, signal.SIGTERM, ExitCode.OK))


@fault("door.freeze", 2, 14)
def _freeze_door(world: World, pick: int) -> Course:
    """Freeze a door that owes answers: its callers turn to the other door."""
    return (yield from freeze(world.doors[pick % len(world.doors)]))


@fault("relay.kill")
def _kill_relay(world: World, pick: int) -> Course:
    relay = world.relays[pick % len(world.relays)]
    return (yield from _end(relay, signal.SIGKILL, -signal.SIGKILL))


@fault("relay.term")
def _term_relay(world: World, pick: int) -> Course:
    relay = world.relays[pick % len(world.relays)]
    # One that has just been started has no handler yet.
    relay.order_end(-signal.SIGTERM)
    return (yield from _end(relay, signal.SIGTERM, ExitCode.OK))


@fault("relay.freeze", 2, 14)
def _freeze_relay(world: World, pick: int) -> Course:
    """Freeze a relay for longer than the standby waits: when it resumes, another is active."""
    return (yield from freeze(world.relays[pick % len(world.relays)]))


@fault("client.kill")
def _kill_client(world: World, pick: int) -> Course:
    client = world.clients[pick % len(world.clients)]
    return (yield from _end(client, signal.SIGKILL, -signal.SIGKILL))


@fault("client.disk_full", 1, 4)
def _fill_disk(world: World, pick: int) -> Course:
    """Forbid the client's files to grow, which is the same to it as a full disk."""
    client = world.clients[pick % len(world.clients)]
    while not client.process.alive():
        yield WAIT
    ends = len(client.ends)
    client.order_end(ExitCode.STORAGE)
    client.down_holds += 1
    try:
        while len(client.ends) == ends:
            subprocess.run(
                ["prlimit", f"--pid={client.process.pid}", "--fsize=1"],
                capture_output=True,
                check=False,
            )
            yield WAIT
        yield ON
    finally:
        client.down_holds -= 1
    end = client.ends[ends]
    return (
        f"{client.name}: ended with {end.code} ({ExitCode.STORAGE}: the outbox cannot be written)"
    )
