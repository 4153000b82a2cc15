"""Faults of the links: each between one process and one server, in each direction separately."""

from __future__ import annotations

from lab.harness.proxy import Direction
from lab.trial.faults import ON, WAIT, Course, fault
from lab.trial.network import Shape
from lab.trial.world import World

LINKS = (
    "client-broker",
    "worker-broker",
    "worker-database",
    "door-broker",
    "caller-door",
    "relay-broker",
    "relay-database",
)
DIRECTIONS = ("up", "down")

LATENCY = 0.2
"""Seconds."""

SLOW = 64_000 / 8
"""Bytes a second: 64 kbit/s."""


def _reset(world: World, pick: int, of: str) -> Course:
    member, proxy = world.link(pick, of)
    while not (cut := proxy.cut()):
        yield WAIT
    yield ON
    return f"{member.name}: {cut} connection(s) reset"


def _cut_frame(world: World, pick: int, of: str, way: str) -> Course:
    member, proxy = world.link(pick, of)
    while not proxy.connections:
        yield WAIT
    before = proxy.cuts
    direction: Direction = getattr(proxy, way)
    # A frame's header has seven bytes, a packet's four: this cuts in the middle of one.
    direction.cut_after = 1 + pick % 3
    yield ON
    while proxy.cuts == before:
        if not direction.to_be_cut:
            # The connection had just ended by itself.
            direction.cut_after = 1 + pick % 3
        yield WAIT
    direction.cut_after = None
    return f"{member.name}: cut after {1 + pick % 3} byte(s) more"


def _shaped(world: World, pick: int, of: str, way: str, shape: Shape) -> Course:
    member, proxy = world.link(pick, of)
    while not proxy.connections:
        yield WAIT
    direction: Direction = getattr(proxy, way)
    before = _traffic(direction, shape)
    world.network.shape(proxy, direction, shape)
    try:
        yield ON
        # Silence proves nothing, so the fault lasts until there is traffic.
        while _traffic(direction, shape) == before:
            yield WAIT
        met = _traffic(direction, shape) - before
    finally:
        world.network.unshape(proxy, direction, shape)
    return f"{member.name}: {met:,} bytes met it"


def _traffic(direction: Direction, shape: Shape) -> int:
    return direction.withheld if shape.hold else direction.passed


def _enter_all() -> None:
    for of in LINKS:

        def reset(world: World, pick: int, of: str = of) -> Course:
            return _reset(world, pick, of)

        fault(f"network.reset.{of}")(reset)
        for way in DIRECTIONS:

            def cut(world: World, pick: int, of: str = of, way: str = way) -> Course:
                return _cut_frame(world, pick, of, way)

            fault(f"network.cut_frame.{of}.{way}")(cut)
            for name, shape, shortest, longest in (
                ("black_hole", Shape(hold=True), 2, 12),
                ("latency", Shape(latency=LATENCY), 2, 6),
                ("slow", Shape(rate=SLOW), 2, 6),
            ):

                def shaped(
                    world: World, pick: int, of: str = of, way: str = way, shape: Shape = shape
                ) -> Course:
                    # A shape of its own, since two of a kind may be active at once.
                    mine = Shape(shape.latency, shape.rate, shape.hold)
                    return _shaped(world, pick, of, way, mine)

                fault(f"network.{name}.{of}.{way}", shortest, longest)(shaped)


_enter_all()
