"""The values that the sources provide: served requests, the queue, the seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from turnwise.failed import Failed

Identity = tuple[str, int]
"""Client and counter."""


@dataclass(frozen=True, slots=True)
class Served:
    """A served request. ``message`` may be cut short; ``size`` is its full size in bytes."""

    client: str
    counter: int
    message: str
    size: int
    sent_at: datetime
    served_at: datetime
    served_by: str
    deliveries: int

    @property
    def identity(self) -> Identity:
        """The client and counter, which no other request shares."""
        return self.client, self.counter


@dataclass(frozen=True, slots=True)
class Queue:
    """RabbitMQ's figures of the queue and its dead letters. ``replicas`` are the consumers."""

    ready: int
    in_hand: int
    consumers: int
    dead: int
    replicas: frozenset[str]
    warnings: tuple[str, ...] = ()
    """What is wrong with the cluster, in sentences."""


@dataclass(frozen=True, slots=True)
class Second:
    """The figures of one second; None where unknown."""

    served: dict[str, int] | None = None
    queue: Queue | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """How many requests wait for another attempt and how many were given up, up to a bound."""

    waiting: int
    given_up: int


@dataclass(frozen=True, slots=True)
class Found:
    """The result of looking one request up.

    ``known``: its client has been served before. ``removed``: it was served, and its row was
    removed.
    """

    request: Served | None = None
    failure: Failed | None = None
    known: bool = True
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One client's line in the audit. ``gaps`` are the first few, by first and last counter."""

    client: str
    served: int
    highest: int
    missing: int
    failed: int
    repeated: int
    resume_at: int
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Accounts:
    """The sums over all clients, and the lines of some clients, those with a gap first."""

    count: int
    served: int
    missing: int
    failed: int
    repeated: int
    lines: tuple[Line, ...]
    served_by: dict[str, int]

    @property
    def holds(self) -> bool:
        """Whether no request is missing and none is stored twice."""
        return not self.missing and not self.repeated
