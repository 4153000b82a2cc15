"""What befalls a node of three, or the links between them. One at a time, and from a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator

from lab import links
from lab.errors import LabError
from lab.trial.faults import ON, WAIT, Course, Stage, fault
from lab.trial.server_faults import freeze, restart
from lab.trial.server_state import ServerState
from lab.trial.world import World
from turnwise.topology import Topology


@contextlib.contextmanager
def _alone(world: World, which: str) -> Iterator[None]:
    world.held[which] += 1
    try:
        yield
    finally:
        world.held[which] -= 1


def _turn(
    world: World, which: str, whole: Callable[[], bool], befall: Callable[[], Course]
) -> Course:
    """Wait for the turn and for all three nodes; befall them; wait until they are three again."""
    while world.held[which]:
        yield WAIT
    with _alone(world, which):
        while not whole():
            yield WAIT
        proof = yield from befall()
        while not whole():
            yield WAIT
    return proof


def _rabbits(world: World, befall: Callable[[int], Course]) -> Course:
    """Let something befall RabbitMQ's nodes; it is told the place of the queue's leader."""

    def lead() -> int | None:
        with contextlib.suppress(LabError):
            return world.trio.leader(world.name, Topology().queue)
        return None

    def course() -> Course:
        while (place := lead()) is None:
            yield WAIT
        return (yield from befall(place))

    return (yield from _turn(world, "rabbits", world.trio.rabbits_whole, course))


def _databases(world: World, befall: Callable[[ServerState], Course]) -> Course:
    """Let something befall the database's writer; it has to have moved by then."""
    writer = world.trio.writer
    assert writer is not None  # noqa: S101

    def course() -> Course:
        before = writer.current
        state = next(each for each in world.databases if each.server is before)
        proof = yield from befall(state)
        moved = writer.current is not before
        return proof and f"{proof}; the writer {'moved' if moved else 'stayed'}"

    return (yield from _turn(world, "databases", world.trio.databases_whole, course))


def _new_leader(world: World, before: int) -> Generator[Stage, None, int]:
    """Wait until another node leads the queue."""
    while True:
        with contextlib.suppress(LabError):
            now = world.trio.leader(world.name, Topology().queue)
            if now != before and world.brokers[now].is_whole():
                return now
        yield WAIT


def _name(world: World, place: int) -> str:
    return world.trio.rabbits[place].nodename


@fault("node.leader_kill", 4, 12)
def _kill_leader(world: World, _pick: int) -> Course:
    def befall(leader: int) -> Course:
        state = world.brokers[leader]
        # It stays away until another one leads, and for the fault's time.
        state.down_holds += 1
        try:
            before = state.server.runner.identity()
            state.gone()
            state.server.kill()
            after = yield from _new_leader(world, leader)
            yield ON
        finally:
            state.down_holds -= 1
        while not state.is_whole():
            yield WAIT
        return f"{_name(world, leader)} {before} was killed; {_name(world, after)} led"

    return (yield from _rabbits(world, befall))


@fault("node.follower_kill", 0, 8)
def _kill_follower(world: World, pick: int) -> Course:
    def befall(leader: int) -> Course:
        followers = [state for place, state in enumerate(world.brokers) if place != leader]
        return (yield from restart(followers[pick % len(followers)], kill=True))

    return (yield from _rabbits(world, befall))


@fault("node.majority_kill", 5, 12)
def _kill_majority(world: World, pick: int) -> Course:
    """Two of three: nothing is confirmed, and the one that is left stops serving."""

    def befall(leader: int) -> Course:
        other = [place for place in range(len(world.brokers)) if place != leader][pick % 2]
        down = [world.brokers[leader], world.brokers[other]]
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

    return (yield from _rabbits(world, befall))


@fault("node.leader_freeze", 12, 20)
def _freeze_leader(world: World, _pick: int) -> Course:
    """For longer than the nodes' patience with each other."""

    def befall(leader: int) -> Course:
        return (yield from freeze(world.brokers[leader]))

    return (yield from _rabbits(world, befall))


def _part(world: World, place: int) -> Course:
    """Cut a node off from its peers; clients still reach it."""
    state, host = world.brokers[place], world.trio.hosts[place]
    others = world.trio.others(place)
    links.cut(host, others)
    try:
        # It is in the minority, notices that, and stops serving.
        while state.greets():
            yield WAIT
        state.gone()
        yield ON
        silent = not state.greets()
    finally:
        links.mend(host, others)
    while not state.is_whole():
        yield WAIT
    return f"{_name(world, place)} was cut off and stopped serving" if silent else None


@fault("node.leader_partition", 8, 25)
def _cut_leader(world: World, _pick: int) -> Course:
    return (yield from _rabbits(world, lambda leader: _part(world, leader)))


@fault("node.follower_partition", 8, 25)
def _cut_follower(world: World, pick: int) -> Course:
    def befall(leader: int) -> Course:
        followers = [place for place in range(len(world.brokers)) if place != leader]
        return (yield from _part(world, followers[pick % len(followers)]))

    return (yield from _rabbits(world, befall))


@fault("node.rolling_restart")
def _roll(world: World, _pick: int) -> Course:
    """One after the other, gracefully, each back among its peers before the next one goes."""

    def befall(_leader: int) -> Course:
        before = [state.server.runner.identity() for state in world.brokers]
        for state in world.brokers:
            yield from _unnoticed(restart(state, kill=False))
            while not world.trio.rabbits_whole():
                yield WAIT
        yield ON
        after = [state.server.runner.identity() for state in world.brokers]
        if any(new in {old, "none"} for old, new in zip(before, after, strict=True)):
            return None
        return f"{', '.join(before)} ended in turn, now {', '.join(after)}"

    return (yield from _rabbits(world, befall))


def _unnoticed(course: Course) -> Course:
    """Run a fault as a part of another one, whose time does not begin with it."""
    while True:
        try:
            next(course)
        except StopIteration as end:
            return str(end.value)
        yield WAIT


@fault("node.writer_kill", 0, 8)
def _kill_writer(world: World, _pick: int) -> Course:
    return (yield from _databases(world, lambda state: restart(state, kill=True)))


@fault("node.writer_restart", 0, 8)
def _restart_writer(world: World, _pick: int) -> Course:
    return (yield from _databases(world, lambda state: restart(state, kill=False)))


@fault("node.writer_freeze", 6, 15)
def _freeze_writer(world: World, _pick: int) -> Course:
    return (yield from _databases(world, freeze))
