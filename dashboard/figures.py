"""What the sources tell: a request as it was served, the queue, the seconds. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

Identity = tuple[str, int]
"""Client and counter."""


@dataclass(frozen=True, slots=True)
class Served:
    """A row. ``message`` may be only its beginning; ``size`` is that of all of it, in bytes."""

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
        """What no other request has."""
        return self.client, self.counter


@dataclass(frozen=True, slots=True)
class Queue:
    """What RabbitMQ says of the queue and of its dead letters. ``replicas``: who consumes."""

    ready: int
    in_hand: int
    consumers: int
    dead: int
    replicas: frozenset[str]
    warnings: tuple[str, ...] = ()
    """What is wrong with the cluster, in sentences."""


@dataclass(frozen=True, slots=True)
class Second:
    """What is known of one second; None is not known."""

    served: dict[str, int] | None = None
    queue: Queue | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """How many requests wait for another attempt, and how many were given up; bounded counts."""

    waiting: int
    given_up: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not served. ``due_at`` is None once it is given up."""

    client: str
    counter: int
    message: str
    sent_at: datetime
    attempts: int
    deaths: int
    error: str
    traceback: str | None
    reason: str
    failed_at: datetime
    failed_by: str
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at one request found.

    ``known``: anything of its client was ever served. ``removed``: it was, and its row is gone.
    """

    request: Served | None = None
    failure: Failure | None = None
    known: bool = True
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One client's line in the audit. ``gaps``: the first few, first and last counter each."""

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
    """The sums over all clients, and the lines of some: those with a gap first."""

    count: int
    served: int
    missing: int
    failed: int
    repeated: int
    lines: tuple[Line, ...]
    served_by: dict[str, int]

    @property
    def holds(self) -> bool:
        """Whether nothing is missing and nothing is there twice."""
        return not self.missing and not self.repeated
