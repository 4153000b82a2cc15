"""The status of the table outbox, for people and for alerts."""

from __future__ import annotations

from dataclasses import dataclass

from turnwise.database import Connection

COUNTED = 100_000
"""How many rows of the outbox are counted at most, since counting reads each row."""

_RELAY = (
    "SELECT holder, TIMESTAMPDIFF(MICROSECOND, renewed_at, UTC_TIMESTAMP(6)) / 1000000"
    " FROM outbox_relay"
)
_CLIENTS = (
    "SELECT queue, client, last,"
    " last - (SELECT COALESCE(SUM(size), 0) FROM outbox_batches AS b WHERE b.client = c.client)"
    " FROM outbox_clients AS c"
)
_WAITING = (
    "SELECT queue, COUNT(*),"
    " TIMESTAMPDIFF(MICROSECOND, MIN(created_at), UTC_TIMESTAMP(6)) / 1000000"
    " FROM (SELECT queue, created_at FROM outbox ORDER BY id LIMIT %s) AS head"
    " GROUP BY queue"
)


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The outbox's figures for one queue."""

    queue: str
    client: str | None
    """The client that its requests are sent as; None if the relay has not seen this queue yet."""
    numbered: int
    """How many requests are numbered: the last number assigned."""
    confirmed: int
    """How many of those are confirmed by RabbitMQ and removed."""
    waiting: int
    """How many committed rows are not removed; of all queues, ``most`` are counted."""
    oldest_seconds: float
    """How long ago the oldest of those was inserted; 0 if nothing waits."""


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """The state of the outbox in one snapshot."""

    relay: str | None
    """The active relay; None if the last one has stopped."""
    seen_seconds: float
    """Seconds since it renewed its lease, which an active relay does every second."""
    queues: tuple[QueueStatus, ...]

    @property
    def waiting(self) -> int:
        """How many committed rows are not removed; at most as many as were counted."""
        return sum(queue.waiting for queue in self.queues)

    @property
    def oldest_seconds(self) -> float:
        """How long ago the oldest of those was inserted; 0 if nothing waits."""
        return max((queue.oldest_seconds for queue in self.queues), default=0.0)


def read(connection: Connection, most: int = COUNTED) -> OutboxStatus:
    """Read the status, counting at most ``most`` waiting rows.

    Takes a millisecond, or some tens while many rows are waiting.

    Raises pymysql.Error. The account needs SELECT on the tables outbox, outbox_relay,
    outbox_clients and outbox_batches.
    """
    with connection.cursor() as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute(_RELAY)
        relay = cursor.fetchone() or (None, 0)
        cursor.execute(_CLIENTS)
        clients = {queue: more for queue, *more in cursor.fetchall()}
        cursor.execute(_WAITING, most)
        waiting = {queue: more for queue, *more in cursor.fetchall()}
        connection.commit()
    queues = []
    for queue in sorted(clients.keys() | waiting.keys()):
        client, numbered, confirmed = clients.get(queue, (None, 0, 0))
        count, oldest = waiting.get(queue, (0, 0))
        # The clock may have been set back in between.
        age = max(0.0, float(oldest))
        queues.append(QueueStatus(queue, client, numbered, int(confirmed), count, age))
    return OutboxStatus(relay[0], max(0.0, float(relay[1])), tuple(queues))
