"""Faults of one RabbitMQ node of three: its process, its leadership. Each needs a whole cluster."""

from __future__ import annotations

import functools

from lab.harness.errors import LabError
from lab.trial import turns
from lab.trial.courses import background, together, unnoticed
from lab.trial.faults import ON, WAIT, Course, fault
from lab.trial.server_faults import freeze, restart
from lab.trial.world import World
from turnwise.topology import Topology

_TRANSFER = """
    {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)),
    rabbit_quorum_queue:transfer_leadership(Queue, '{node}').
"""

_DRAIN = "rabbit_maintenance:drain()."


def _kill_one(world: World, leader: int) -> Course:
    state = world.brokers[leader]
    # The node stays down until another one leads, and for the fault's time.
    state.down_holds += 1
    try:
        before = state.server.runner.identity()
        state.gone()
        state.server.kill()
        after = yield from turns.new_leader(world, leader)
        yield ON
    finally:
        state.down_holds -= 1
    while not state.is_whole():
        yield WAIT
    led = turns.nodename(world, after)
    return f"{turns.nodename(world, leader)} {before} was killed; {led} led"


@fault("node.leader_kill", 4, 12)
def _kill_leader(world: World, _pick: int) -> Course:
    return (yield from turns.rabbits(world, lambda leader: _kill_one(world, leader)))


@fault("node.follower_kill", 0, 8)
def _kill_follower(world: World, pick: int) -> Course:
    def befall(leader: int) -> Course:
        state = world.brokers[turns.follower(world, leader, pick)]
        return (yield from restart(state, kill=True))

    return (yield from turns.rabbits(world, befall))


@fault("node.majority_kill", 5, 12)
def _kill_majority(world: World, pick: int) -> Course:
    """Kill two of three: nothing is confirmed, and the remaining node stops serving."""

    def befall(leader: int) -> Course:
        down = [world.brokers[leader], world.brokers[turns.follower(world, leader, pick)]]
        [left] = [state for state in world.brokers if state not in down]
        for state in down:
            state.down_holds += 1
        try:
            before = [state.server.runner.identity() for state in down]
            for state in down:
                state.gone()
                state.server.kill()
            while left.greets():
                yield WAIT
            left.gone()
            yield ON
            silent = not left.greets()
        finally:
            for state in down:
                state.down_holds -= 1
        while not all(state.is_whole() for state in world.brokers):
            yield WAIT
        return f"{', '.join(before)} were killed, and the third stopped serving" if silent else None

    return (yield from turns.rabbits(world, befall))


@fault("node.leader_freeze", 12, 20)
def _freeze_leader(world: World, _pick: int) -> Course:
    """Freeze the leader for longer than the nodes' timeout for each other."""

    def befall(leader: int) -> Course:
        return (yield from freeze(world.brokers[leader]))

    return (yield from turns.rabbits(world, befall))


@fault("node.leadership_moved")
def _move_leadership(world: World, pick: int) -> Course:
    """Have the leader hand over to another node."""

    def befall(leader: int) -> Course:
        to = turns.follower(world, leader, pick)
        words = _TRANSFER.format(
            vhost=world.name, queue=Topology().queue, node=turns.nodename(world, to)
        )
        answer = ""
        while "migrated" not in answer:
            try:
                answer = yield from background(
                    lambda: world.trio.rabbits[leader].ctl("eval", words)
                )
            except LabError:
                yield WAIT  # a busy machine had no time for it
        now = yield from turns.new_leader(world, leader)
        yield ON
        world.brokers[now].healed()
        return f"{turns.nodename(world, leader)} handed over to {turns.nodename(world, now)}"

    return (yield from turns.rabbits(world, befall))


def _one_after_the_other(world: World, *, drain: bool) -> Course:
    before = [state.server.runner.identity() for state in world.brokers]
    for place, state in enumerate(world.brokers):
        if drain:
            # The node hands its queues over and closes its clients' connections.
            yield from background(functools.partial(world.trio.rabbits[place].ctl, "eval", _DRAIN))
        yield from unnoticed(restart(state, kill=False))
        while not world.trio.rabbits_whole():
            yield WAIT
    yield ON
    after = [state.server.runner.identity() for state in world.brokers]
    if any(new in {old, "none"} for old, new in zip(before, after, strict=True)):
        return None
    how = "were drained and ended" if drain else "ended"
    return f"{', '.join(before)} {how} in turn, now {', '.join(after)}"


@fault("node.rolling_restart")
def _roll(world: World, _pick: int) -> Course:
    """Restart all gracefully, one after the other; each rejoins before the next one stops."""
    return (
        yield from turns.rabbits(world, lambda _leader: _one_after_the_other(world, drain=False))
    )


@fault("node.rolling_upgrade")
def _upgrade(world: World, _pick: int) -> Course:
    """Restart all as an upgrade does: each node is drained before it stops. The release stays."""
    return (
        yield from turns.rabbits(world, lambda _leader: _one_after_the_other(world, drain=True))
    )


@fault("node.both_kill", 4, 10)
def _kill_both(world: World, _pick: int) -> Course:
    """Kill a machine with a node of each cluster: the queue's leader and the database's writer."""

    def befall(leader: int, writer: int) -> Course:
        killed = restart(world.databases[writer], kill=True)
        return (yield from together([_kill_one(world, leader), killed]))

    return (yield from turns.both(world, befall))
