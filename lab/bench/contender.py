"""What is measured, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.bench.stage import Stage
from lab.harness.servers import Servers


@dataclass(frozen=True, slots=True)
class Setting:
    """Servers, a name that nobody else uses on them, and the share of the usual size to take."""

    servers: Servers
    name: str
    scale: float

    def size(self, usual: int) -> int:
        """Return how many requests to take."""
        return max(10, int(usual * self.scale))

    def stage(self, suffix: str = "") -> Stage:
        """Return an empty pipeline."""
        return Stage(self.servers, self.name + suffix)


class LeftOut(Exception):
    """A contender cannot be had on this machine; the bench says so and goes on."""


Figures = dict[str, float]

Contender = Callable[[Setting], Figures]
"""Has the machine to itself, checks what was done, and returns figures by their names."""
