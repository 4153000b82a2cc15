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


@dataclass(frozen=True, slots=True)
class Second:
    """What is known of one second; None is not known."""

    served: dict[str, int] | None = None
    queue: Queue | None = None
