"""The interface of the bench's contenders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.bench.stage import Stage
from lab.harness.servers import Servers


@dataclass(frozen=True, slots=True)
class Setting:
    """Servers, a name unused on them, and the share of the usual size to measure."""

    servers: Servers
    name: str
    scale: float

    def size(self, usual: int) -> int:
        """Return how many of ``usual`` requests to measure."""
        return max(10, int(usual * self.scale))

    def stage(self, suffix: str = "") -> Stage:
        """Return an empty pipeline."""
        return Stage(self.servers, self.name + suffix)


class LeftOut(Exception):
    """A contender is not available on this machine. The bench reports that and continues."""


Figures = dict[str, float]

Contender = Callable[[Setting], Figures]
"""Runs alone on the machine, checks its results, and returns figures by name."""
