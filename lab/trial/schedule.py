"""The schedule of faults: a pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2.0
"""The average seconds between two faults; some overlap."""

GAP_OF_NODES = 12.0
"""The same with several nodes of each server, which need time to reconnect."""

AGAIN = 0.1
"""The probability that the next fault is the same again, perhaps while the first still lasts."""

AT_ONCE = 0.15
"""The probability that the next fault follows at once."""

CALM = 3.0
"""Seconds without a fault at the start."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault, and the range of seconds that it lasts."""

    name: str
    shortest: float
    longest: float


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: ``at`` and ``lasts`` in seconds; ``pick`` chooses its target."""

    number: int
    kind: str
    at: float
    lasts: float
    pick: int


def plan(
    seed: int,
    kinds: Sequence[Kind],
    *,
    duration: float | None = None,
    count: int | None = None,
    gap: float = GAP,
) -> list[Planned]:
    """Return the faults of a trial: ``count``, or as many as fit into ``duration`` seconds.

    ``gap`` is the average number of seconds between two faults.

    Every kind comes once before one comes again, in a new random order each time: a short trial has
    as many kinds as possible, a long one has each kind equally often. Now and then a fault is
    followed at once by the next one, or by the same kind again.
    """
    rng = random.Random(seed)
    by_name = {kind.name: kind for kind in kinds}
    faults: list[Planned] = []
    deck: list[Kind] = []
    at = CALM
    while True:
        if count is not None and len(faults) == count:
            return faults
        if not deck:
            deck = rng.sample(kinds, len(kinds))
        again = bool(faults) and rng.random() < AGAIN
        kind = by_name[faults[-1].kind] if again else deck.pop()
        fault = Planned(
            number=len(faults) + 1,
            kind=kind.name,
            at=round(at, 3),
            lasts=round(rng.uniform(kind.shortest, kind.longest), 3),
            pick=rng.randrange(1_000_000),
        )
        if duration is not None and fault.at + fault.lasts > duration:
            return faults
        faults.append(fault)
        at += 0.1 if rng.random() < AT_ONCE else rng.expovariate(1 / gap)
