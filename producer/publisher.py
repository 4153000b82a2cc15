"""Publishes a backlog to RabbitMQ in order, and forgets requests only once they are confirmed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from pika import BasicProperties, frame, spec

from producer.window import Window
from turnwise.broker import MOVE_ON, Broker
from turnwise.errors import Transient
from turnwise.topology import Topology

log = logging.getLogger(__name__)

WINDOW = 1000
"""The most requests in flight: as many may be published twice when a connection is lost, and are
kept in memory."""

CONFIRM_TIMEOUT = 60.0
"""Seconds without any confirm, on a connection that is not blocked, before it is abandoned.

A quorum queue that lost its majority confirms nothing, and AMQP has no timeout for confirms. Where
there are other nodes, MOVE_ON is enough: this one may be cut off without knowing it."""

DRAIN_TIMEOUT = 5.0
"""Seconds to wait for outstanding confirms before a channel is closed."""


class Backlog(Protocol):
    """The source of a publisher: requests in ascending order, kept until they are confirmed."""

    @property
    def accepted(self) -> int:
        """The highest number assigned."""

    def after(self, number: int, limit: int) -> Iterable[tuple[int, bytes, bytes]]:
        """Return at most ``limit`` requests numbered above ``number``, lowest first.

        Each is its number, and its body and properties in wire format.
        """

    def number(self, message_id: str) -> int:
        """Return the number under which a request was last published."""

    def forget(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Record that requests are confirmed. A range is a first and a last number, inclusive."""


class Publisher:
    """Publishes on one channel. When that fails, a new Publisher starts again from the backlog.

    Requests that were in flight are still in the backlog and are published again. The primary key
    in the database makes the repeats harmless.
    """

    def __init__(self, broker: Broker, topology: Topology, backlog: Backlog) -> None:
        self._broker = broker
        self._topology = topology
        self._backlog = backlog
        self._window = Window()
        self._published = 0  # the highest number published on this channel
        self._last_confirm = time.monotonic()
        self._channel = broker.channel()
        raw = self._channel.raw
        raw.add_on_return_callback(self._on_return)
        try:
            self._channel.call(raw.confirm_delivery, ack_nack_callback=self._on_confirm)
        except Transient:
            self._channel.close()
            raise
        self._publish = self._channel.publishing(topology.exchange, topology.queue)

    def run(self, until: Callable[[], bool], progress: Callable[[], None]) -> None:
        """Publish until ``until()`` is true, calling ``progress()`` when requests are confirmed.

        Raises Transient when the broker refuses a request or the connection is lost.
        """
        while not until():
            published = self.publish()
            # With room in the window and more to publish, only poll for confirms.
            self._broker.turn(0 if published and len(self._window) < WINDOW else 1)
            if self.settle():
                progress()

    @property
    def in_flight(self) -> int:
        """The number of requests that are published and not confirmed."""
        return len(self._window)

    def settle(self) -> bool:
        """Forget the requests confirmed since the last call; return whether there were any.

        Raises Transient when the broker refused a request or closed the channel.
        """
        self._channel.check()
        settled = self._forget()
        self._check_confirms()
        return settled

    def close(self) -> None:
        """Close the channel. Requests in flight stay in the backlog."""
        self._channel.close()

    def drain(self) -> None:
        """Wait up to DRAIN_TIMEOUT for outstanding confirms, and forget what they cover."""
        self._broker.wait(lambda: not self._window, DRAIN_TIMEOUT)
        self._forget()

    def publish(self) -> int:
        """Publish as much as the window has room for; return the number of requests."""
        room = WINDOW - len(self._window)
        if self._broker.blocked or room < WINDOW // 4:
            return 0
        if self._published == self._backlog.accepted:
            return 0
        self._channel.check()
        numbers = []
        for number, body, properties in self._backlog.after(self._published, room):
            self._publish(body, properties)
            numbers.append(number)
        self._window.published(numbers)
        self._published = numbers[-1] if numbers else self._published
        return len(numbers)

    def _forget(self) -> bool:
        confirmed = self._window.take_confirmed()
        if confirmed:
            self._backlog.forget(confirmed)
        return bool(confirmed)

    def _check_confirms(self) -> None:
        if self._window.refused:
            self.drain()
            raise Transient(
                f"{self._broker.node} did not accept {self._window.refused} request(s): "
                f"{self._why()}"
            )
        if not self._window or self._broker.blocked:
            self._last_confirm = time.monotonic()
            return
        patience = MOVE_ON if self._broker.others else CONFIRM_TIMEOUT
        if time.monotonic() - self._last_confirm > patience:
            raise Transient(
                f"{self._broker.node} has confirmed nothing for {patience:.0f} s: the queue "
                f"{self._topology.queue!r} may be without a majority of its nodes"
            )

    def _why(self) -> str:
        """Return why requests were refused: a missing queue returns them, others nack them."""
        queue = f"the queue {self._topology.queue!r}"
        if self._window.unroutable:
            return f"{queue} is missing, or not bound to its exchange"
        return f"{queue} is without a majority of its nodes at the moment, or full"

    def _on_confirm(self, method: frame.Method[spec.Basic.Ack | spec.Basic.Nack]) -> None:
        self._last_confirm = time.monotonic()
        self._window.settle(
            method.method.delivery_tag,
            multiple=method.method.multiple,
            taken=isinstance(method.method, spec.Basic.Ack),
        )

    def _on_return(
        self, _channel: object, _method: object, properties: BasicProperties, _body: bytes
    ) -> None:
        # A returned message carries the identity that it was published with.
        self._window.returned(self._backlog.number(properties.message_id))
