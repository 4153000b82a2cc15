"""Checks whether a queue still works as seen from here, while it delivers nothing.

A node that lost the majority keeps answering heartbeats but delivers nothing: its consumers would
wait until the partition heals, while the queue grows on the other nodes. So would a consumer whose
last ack the broker has lost.
"""

from __future__ import annotations

import time
from collections import deque

from pika import BasicProperties, spec

from turnwise.broker import Channel
from turnwise.deliveries import Delivery
from turnwise.errors import Transient

ASK_AFTER = 3.0
"""Seconds without a delivery after which an idle consumer asks."""

ANSWER_WITHIN = 5.0
"""Seconds to wait for the answer."""


class Inquiry:
    """Asks the queue for a message with basic.get, without blocking.

    basic.get goes through the leader's log, so the answer proves that there is a majority. While
    the consumer is idle, the queue should have no message. One that it has is added to ``arrived``
    at once: the next ack covers its tag as well, so it must be stored with what arrives after it.
    """

    def __init__(self, channel: Channel, queue: str, arrived: deque[Delivery]) -> None:
        self._channel = channel
        self._queue = queue
        self._arrived = arrived
        self._heard_at = time.monotonic()
        self._asked_at: float | None = None
        self.withheld = False
        """Whether the queue had a message that it did not deliver, though the consumer was idle."""
        channel.raw.add_callback(self._on_empty, [spec.Basic.GetEmpty], one_shot=False)

    def heard(self) -> None:
        """Record that a message was delivered, or was served just now."""
        self._heard_at = time.monotonic()

    def look(self) -> None:
        """Ask if it is time to. Raises Transient if the answer is overdue."""
        now = time.monotonic()
        if self._asked_at is None:
            if now - self._heard_at >= ASK_AFTER:
                self._asked_at = now
                self._channel.raw.basic_get(self._queue, callback=self._on_message)
        elif now - max(self._asked_at, self._heard_at) >= ANSWER_WITHIN:
            raise Transient(
                f"{self._channel.broker.node} has not answered for {ANSWER_WITHIN:.0f} s whether "
                f"the queue {self._queue!r} holds anything: it may be cut off from the other nodes"
            )

    def _on_empty(self, _frame: object) -> None:
        self._asked_at, self._heard_at = None, time.monotonic()

    def _on_message(
        self, _channel: object, method: spec.Basic.GetOk, about: BasicProperties, body: bytes
    ) -> None:
        now = time.monotonic()
        # If a message was delivered since, the consumer was busy, and this one rightly waited.
        self.withheld = not self._arrived and self._heard_at <= (self._asked_at or 0)
        self._asked_at, self._heard_at = None, now
        properties = b"".join(about.encode())
        self._arrived.append(
            Delivery(method.delivery_tag, properties, body, now, method.redelivered)
        )
