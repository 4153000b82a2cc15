"""A RabbitMQ node of three that loses its disk: it rejoins, or serves alone before it does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Container, Iterator, Sequence

from lab.harness.errors import LabError
from lab.harness.process import free_port
from lab.trial import turns
from lab.trial.courses import background
from lab.trial.faults import ON, WAIT, Course, fault
from lab.trial.members import Member
from lab.trial.world import World
from turnwise.topology import Topology

_MET_FOR = 4.0
"""Seconds for which the clients can reach only the blank node."""


@fault("node.disk_lost", 0, 4)
def _lose_disk(world: World, pick: int) -> Course:
    """Remove the node from the cluster; it joins as a new node, and gets its queue members back."""

    def befall(leader: int) -> Course:
        place = turns.follower(world, leader, pick)
        before = world.brokers[place].server.runner.identity()
        with _away(world, place):
            yield from _count_out(world, leader, place)
            yield ON
        members = yield from _join_again(world, leader, place)
        return f"{turns.nodename(world, place)} {before} lost its disk; {members} members again"

    return (yield from turns.rabbits(world, befall))


@fault("node.blank", 0, 4)
def _meet_blank(world: World, pick: int) -> Course:
    """The node comes back alone, with users and virtual host: whatever it confirms will be lost."""

    def befall(leader: int) -> Course:
        place = turns.follower(world, leader, pick)
        node = world.trio.rabbits[place]
        with _away(world, place):
            yield from _count_out(world, leader, place)
            node.configure(alone=True)
            try:
                node.runner.start()
                while not (yield from _prepared(lambda: node.make_vhost(world.name))):
                    yield WAIT
                yield ON
                with _reaching(world, world.members, {place}):
                    yield from _pause(_MET_FOR)
                    name = world.network.broker_names[place]
                    met = sum(member.links[name].connections for member in world.members)
                    made = _queues(world, place)
                # Without workers, the last messages sent there are unserved when it is wiped.
                senders = [each for each in world.members if each not in world.workers]
                others = {0, 1, 2} - {place}
                with _reaching(world, senders, {place}), _reaching(world, world.workers, others):
                    yield from _pause(_MET_FOR)
            finally:
                node.configure(alone=False)
                node.kill()
            node.wipe()
        yield from _join_again(world, leader, place)
        node_name = turns.nodename(world, place)
        return f"{node_name} served alone, {met} connections met it, queues there: {made}"

    return (yield from turns.rabbits(world, befall))


@contextlib.contextmanager
def _away(world: World, place: int) -> Iterator[None]:
    state = world.brokers[place]
    state.down_holds += 1
    state.gone()
    try:
        yield
    finally:
        state.down_holds -= 1


def _count_out(world: World, leader: int, place: int) -> Course:
    node = world.trio.rabbits[place]
    node.kill()
    node.wipe()
    while not (yield from _prepared(lambda: world.trio.rabbits[leader].forget(node))):
        yield WAIT
    return None


def _join_again(world: World, leader: int, place: int) -> Course:
    """Wait until the node is one of three and has its queue members; return their number."""
    node = world.trio.rabbits[place]
    while not world.trio.rabbits_whole():
        yield WAIT
    while not (yield from _prepared(lambda: world.trio.rabbits[leader].grow(node))):
        yield WAIT
    while node.nodename not in (online := _online(world)):
        yield WAIT
    return str(len(online))


def _prepared(work: Callable[[], None]) -> Course:
    """Do the work if it is possible now; return a text if it was done."""
    try:
        yield from background(work)
    except LabError:
        return None
    return "done"


def _online(world: World) -> list[str]:
    with contextlib.suppress(LabError):
        queue = world.trio.rabbitmq.api("GET", f"queues/{world.name}/{Topology().queue}")
        return list(queue.get("online", []))
    return []


def _queues(world: World, place: int) -> int:
    with contextlib.suppress(LabError):
        return len(world.trio.rabbits[place].api("GET", f"queues/{world.name}"))
    return 0


@contextlib.contextmanager
def _reaching(world: World, members: Sequence[Member], places: Container[int]) -> Iterator[None]:
    """Let these members reach RabbitMQ only at these places."""
    barred = [
        member.links[name]
        for member in members
        for place, name in enumerate(world.network.broker_names)
        if place not in places
    ]
    targets = [link.target for link in barred]
    for link in barred:
        link.target = free_port()
        link.cut()
    try:
        yield
    finally:
        for link, target in zip(barred, targets, strict=True):
            link.target = target


def _pause(seconds: float) -> Course:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield WAIT
    return None
