"""Faults of the links between three machines, each with a node of RabbitMQ and of the database.

Clients still reach each machine. Only one is cut off at a time: with two cut off no majority is
left, and Galera does not always form its cluster again after that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

from lab.harness import links
from lab.harness.links import Way
from lab.trial import turns
from lab.trial.faults import ON, WAIT, Course, Stage, fault
from lab.trial.world import World

_CUT_FOR, _MENDED_FOR = 2.0, 1.5
"""Seconds of a flapping link. One cut is shorter than the nodes' timeout, all are longer."""

_RETURN = 20.0
"""Seconds after a link is restored until a node that has not rejoined is restarted."""


def _part(world: World, place: int, way: Way = Way.BOTH) -> Course:
    state, host = world.brokers[place], world.trio.hosts[place]
    others = world.trio.others(place)
    links.cut(host, others, way)
    try:
        # The node notices that it is in the minority, and stops serving.
        while state.greets():
            yield WAIT
        state.gone()
        yield ON
        silent = not state.greets()
    finally:
        lost = links.mend(host, others)
    end = yield from _return(world, place)
    while not state.is_whole():
        yield WAIT
    if not silent:
        return None
    name = turns.nodename(world, place)
    return f"{name} was {way.value}, {lost} packets were lost, and it stopped serving{end}"


def _return(world: World, place: int) -> Generator[Stage, None, str]:
    """Wait until RabbitMQ's nodes are three again; restart the one that does not rejoin.

    With Mnesia (before RabbitMQ 4) the node may come back partitioned. Returns words for the proof.
    """
    mended = time.monotonic()
    while not world.trio.rabbits_whole():
        if time.monotonic() > mended + _RETURN:
            world.brokers[place].gone()
            world.brokers[place].server.kill()
            return f"; {turns.nodename(world, place)} had to be restarted"
        yield WAIT
    return ""


@fault("node.leader_partition", 8, 25)
def _cut_leader(world: World, _pick: int) -> Course:
    return (yield from turns.both(world, lambda leader, _writer: _part(world, leader)))


@fault("node.follower_partition", 8, 25)
def _cut_follower(world: World, pick: int) -> Course:
    return (
        yield from turns.both(
            world, lambda leader, _writer: _part(world, turns.follower(world, leader, pick))
        )
    )


@fault("node.one_way_partition", 8, 20)
def _cut_one_way(world: World, pick: int) -> Course:
    """Cut one direction: the leader hears nothing from the others, or they hear nothing from it."""
    way = (Way.IN, Way.OUT)[pick % 2]
    return (yield from turns.both(world, lambda leader, _writer: _part(world, leader, way)))


@fault("node.flapping_partition", 12, 25)
def _flap(world: World, _pick: int) -> Course:
    """Cut the leader off and reconnect it, over and over."""

    def befall(leader: int, _writer: int) -> Course:
        host, others = world.trio.hosts[leader], world.trio.others(leader)
        over, lost = threading.Event(), [0]

        def flap() -> None:
            while not over.is_set():
                links.cut(host, others)
                over.wait(_CUT_FOR)
                lost.append(links.mend(host, others))
                over.wait(_MENDED_FOR)

        flapping = threading.Thread(target=flap)
        flapping.start()
        try:
            yield ON
        finally:
            over.set()
            flapping.join()
        world.brokers[leader].healed()
        end = yield from _return(world, leader)
        cuts = sum(each > 0 for each in lost)
        if not cuts:
            return None
        name = turns.nodename(world, leader)
        return f"{name} was cut off {cuts} times, {sum(lost)} packets were lost{end}"

    return (yield from turns.both(world, befall))


@fault("node.writer_partition", 8, 20)
def _cut_writer(world: World, _pick: int) -> Course:
    """Cut off the database's writer: it reports that it belongs to no cluster."""

    def befall(_leader: int, writer: int) -> Course:
        host, others = world.trio.hosts[writer], world.trio.others(writer)
        node = world.trio.databases[writer]
        links.cut(host, others)
        try:
            while turns.whole(world, writer):
                yield WAIT
            yield ON
            alone = not turns.whole(world, writer)
            size = turns.status(world, writer, "wsrep_cluster_size")
        finally:
            lost = links.mend(host, others)
        while not turns.whole(world, writer):
            yield WAIT
        world.databases[writer].healed()
        end = yield from _return(world, writer)
        if not alone or size > 1:
            return None
        return (
            f"database-{node.number} was cut off, {lost} packets were lost, and it stopped "
            f"serving{end}"
        )

    return (yield from turns.both(world, befall))
