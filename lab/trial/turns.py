"""Runs faults of one of three nodes: one at a time, and only on a whole cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator

import pymysql

from lab.harness.errors import LabError
from lab.trial.faults import BEGUN, WAIT, Course, Stage
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
    """Wait for the turn and a whole cluster; run the fault; wait until it is whole again."""
    while world.held[which]:
        yield WAIT
    with _alone(world, which):
        while not whole():
            yield WAIT
        yield BEGUN
        proof = yield from befall()
        while not whole():
            yield WAIT
    return proof


def rabbits(world: World, befall: Callable[[int], Course]) -> Course:
    """Run a fault of RabbitMQ's nodes. ``befall`` gets the index of the queue's leader."""

    def course() -> Course:
        while (place := leader(world)) is None:
            yield WAIT
        return (yield from befall(place))

    return (yield from _turn(world, "rabbits", world.trio.rabbits_whole, course))


def databases(world: World, befall: Callable[[int], Course]) -> Course:
    """Run a fault of the database's nodes. ``befall`` gets the index of the writer.

    The proof reports whether the load balancer's writer moved.
    """
    writer = world.trio.writer
    assert writer is not None  # noqa: S101

    def course() -> Course:
        while (place := _busiest(world)) is None:
            yield WAIT
        before = writer.current
        proof = yield from befall(place)
        moved = writer.current is not before
        return proof and f"{proof}; the load balancer's writer {'moved' if moved else 'stayed'}"

    return (yield from _turn(world, "databases", world.trio.databases_whole, course))


def both(world: World, befall: Callable[[int, int], Course]) -> Course:
    """Run a fault of nodes of both servers. ``befall`` gets both indexes."""
    return (
        yield from rabbits(
            world, lambda leader: databases(world, lambda writer: befall(leader, writer))
        )
    )


def leader(world: World) -> int | None:
    """Return the index of the node that leads the workers' queue; None if it is unknown."""
    with contextlib.suppress(LabError):
        return world.trio.leader(world.name, Topology().queue)
    return None


def new_leader(world: World, before: int) -> Generator[Stage, None, int]:
    """Wait until another node leads the queue."""
    while True:
        now = leader(world)
        if now not in {None, before} and world.brokers[now].is_whole():
            return now
        yield WAIT


def nodename(world: World, place: int) -> str:
    """Return the name of a RabbitMQ node."""
    return world.trio.rabbits[place].nodename


def follower(world: World, leader: int, pick: int) -> int:
    """Choose a RabbitMQ node that does not lead the queue."""
    return [place for place in range(len(world.brokers)) if place != leader][pick % 2]


def connected(world: World, place: int) -> int:
    """Return how many connections the trial's own account has at a database node."""
    return asked(
        world, place, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s",
        world.name,
    )  # fmt: skip


def asked(world: World, place: int, statement: str, *values: object) -> int:
    """Return the number that a query of a database node returns; -1 if it does not answer."""
    with (
        contextlib.suppress(pymysql.Error, OSError),
        world.trio.databases[place].connect(world.name, timeout=2) as cursor,
    ):
        cursor.execute(statement, values or None)
        row = cursor.fetchone()
        return int(row[0]) if row else 0
    return -1


def status(world: World, place: int, name: str) -> int:
    """Return a status variable of a database node as a number; -1 if it does not answer."""
    return asked(
        world, place,
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = %s",
        name,
    )  # fmt: skip


def whole(world: World, place: int) -> bool:
    """Return whether a database node belongs to the cluster and is in sync."""
    return world.trio.databases[place].whole


def _busiest(world: World) -> int | None:
    counts = [connected(world, place) for place in range(len(world.databases))]
    return counts.index(max(counts)) if max(counts) > 0 else None
