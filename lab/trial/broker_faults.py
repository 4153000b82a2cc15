"""Faults of RabbitMQ."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from pika import frame, spec

from lab.harness.errors import LabError
from lab.harness.rabbitmq import MEMORY_WATERMARK
from lab.trial.faults import ON, PATIENCE, WAIT, Course, Stage, fault
from lab.trial.members import Member, last_events
from lab.trial.server_faults import freeze, restart
from lab.trial.world import World
from turnwise.topology import Topology

_DISK_LIMIT = "100MB"


@fault("broker.kill", 0, 3)
def _kill_broker(world: World, _pick: int) -> Course:
    return (yield from restart(world.broker, kill=True))


@fault("broker.restart", 0, 3)
def _restart_broker(world: World, _pick: int) -> Course:
    return (yield from restart(world.broker, kill=False))


@fault("broker.freeze", 2, 14)
def _freeze_broker(world: World, _pick: int) -> Course:
    return (yield from freeze(world.broker))


@fault("broker.close_connections")
def _close_connections(world: World, _pick: int) -> Course:
    """Close connections as an operator does in the management UI."""
    closed = 0
    while not closed:
        yield WAIT
        if not world.broker.is_whole():
            continue
        with contextlib.suppress(LabError):
            for connection in world.servers.rabbitmq.api("GET", f"vhosts/{world.name}/connections"):
                with contextlib.suppress(LabError):  # it has closed already
                    path = f"connections/{quote(connection['name'], safe='')}"
                    world.servers.rabbitmq.api("DELETE", path)
                    closed += 1
    yield ON
    world.broker.healed()
    return f"{closed} connections closed"


def _consumer_channel(world: World, worker: Member) -> int | None:
    """Return the number of the channel that a worker consumes on, or None."""
    with contextlib.suppress(LabError):
        for consumer in world.servers.rabbitmq.api("GET", f"consumers/{world.name}"):
            # The management API shows a consumer before it shows its channel.
            if consumer["consumer_tag"] == worker.name and consumer["channel_details"]:
                return int(consumer["channel_details"]["number"])
    return None


def _say(world: World, worker: Member, make: Callable[[int], bytes], *, down: bool) -> Course:
    """Inject a frame into a worker's connection; the worker's log shows the effect."""
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
    for _ in range(PATIENCE):
        if _losses(worker) != before or worker.starts != starts:
            return f"{worker.name}: sent on {said} connection(s), which were lost"
        yield WAIT
    return None


def _losses(worker: Member) -> list[object]:
    return [e["time"] for e in last_events(worker.process) if e.get("event") == "broker.away"]


@fault("broker.close_channel")
def _close_channel(world: World, pick: int) -> Course:
    """Ack a delivery that never existed: the broker closes the channel, and only that."""
    worker = world.workers[pick % len(world.workers)]
    ack = spec.Basic.Ack(delivery_tag=2**60)
    return (yield from _say(world, worker, lambda n: frame.Method(n, ack).marshal(), down=False))


@fault("broker.cancel_consumer")
def _cancel_consumer(world: World, pick: int) -> Course:
    """Cancel as a broker does when a queue's leader moves, or an ack takes too long."""
    worker = world.workers[pick % len(world.workers)]
    cancel = spec.Basic.Cancel(consumer_tag=worker.name, nowait=True)
    return (yield from _say(world, worker, lambda n: frame.Method(n, cancel).marshal(), down=True))


def _ctl(world: World, words: list[str]) -> Generator[Stage, None, bool]:
    """Run rabbitmqctl in a thread, since it takes a second; return whether it succeeded."""
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
            # A broker that was restarted meanwhile has forgotten the limit.
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
    """Unbind the queue: messages that are published now are confirmed, and go nowhere."""
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
    return "the binding was removed"
