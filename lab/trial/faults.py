"""What a fault is, and how it enters the catalogue.

A fault is a generator:

- It yields WAIT while it cannot happen yet, such as when another fault keeps its server down.
- It yields BEGUN when it begins to take effect. Without that, it begins at once.
- It yields ON once it has happened, and is resumed when its time is over.
- Then it heals, yields WAIT while it waits for its proof, and returns the proof: what was observed,
  with figures.

A fault without a proof makes the trial void.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
from dataclasses import dataclass

from lab.trial.schedule import Kind
from lab.trial.world import World


class Stage(enum.Enum):
    """What a fault yields while it runs."""

    WAIT = "wait"
    BEGUN = "begun"
    ON = "on"


WAIT, BEGUN, ON = Stage.WAIT, Stage.BEGUN, Stage.ON

PATIENCE = 400
"""Ticks that a fault waits for something that should happen soon."""

Course = Generator[Stage, None, str | None]
Fault = Callable[[World, int], Course]
"""Runs a fault on a world; the number chooses its target."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A fault of the catalogue."""

    kind: Kind
    run: Fault


CATALOGUE: dict[str, Entry] = {}


def fault(name: str, shortest: float = 0.0, longest: float = 0.0) -> Callable[[Fault], Fault]:
    """Enter a fault that lasts ``shortest`` to ``longest`` seconds into the catalogue."""

    def enter(run: Fault) -> Fault:
        CATALOGUE[name] = Entry(Kind(name, shortest, longest), run)
        return run

    return enter
