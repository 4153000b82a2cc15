"""What a fault is, and how it enters the catalogue.

A fault is a generator. It yields WAIT while it cannot happen yet (its server is down because of
another one), BEGUN when it begins to take effect (without that, it is taken to begin at once), and
ON, once it has happened; it is resumed when its time is over, heals, yields WAIT while it waits for
its proof, and returns the proof: what was observed, with figures. A fault without a proof makes the
trial void.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
from dataclasses import dataclass

from lab.trial.schedule import Kind
from lab.trial.world import World


class Stage(enum.Enum):
    """What a fault tells while it runs."""

    WAIT = "wait"
    BEGUN = "begun"
    ON = "on"


WAIT, BEGUN, ON = Stage.WAIT, Stage.BEGUN, Stage.ON

PATIENCE = 400
"""Ticks that a fault waits for what should be seen soon."""

Course = Generator[Stage, None, str | None]
Fault = Callable[[World, int], Course]
"""Befalls a world; the number chooses among what it may befall."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A fault of the catalogue."""

    kind: Kind
    run: Fault


CATALOGUE: dict[str, Entry] = {}


def fault(name: str, shortest: float = 0.0, longest: float = 0.0) -> Callable[[Fault], Fault]:
    """Enter a fault, lasting from ``shortest`` to ``longest`` seconds, into the catalogue."""

    def enter(run: Fault) -> Fault:
        CATALOGUE[name] = Entry(Kind(name, shortest, longest), run)
        return run

    return enter
