"""Deliveries, settlements and publishes: a fast path around pika, and pika's own.

The fast path reads and writes frames as bytes, for which it uses pika's internals (connection.py).
If a release of pika has changed those, everything uses pika's public methods: slower, but otherwise
the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from pika import BasicProperties
from pika.channel import Channel as PikaChannel
from pika.spec import Basic

from turnwise.connection import Connection
from turnwise.deliveries import Delivery, encode_ack, encode_reject
from turnwise.errors import InvalidRequest
from turnwise.message import check_sizes
from turnwise.publishes import Envelope


class Way(Protocol):
    """How one channel performs its frequent operations."""

    def deliver(self, take: Callable[[Delivery], None]) -> Callable[..., None]:
        """Pass each delivery to ``take``; return the callback for pika's basic_consume."""

    def ack(self, tag: int) -> None:
        """Ack all unsettled deliveries up to and including this one."""

    def reject(self, tag: int) -> None:
        """Reject a delivery, which dead-letters it."""

    def publishing(self, exchange: str, routing_key: str) -> Callable[[bytes, bytes], None]:
        """Return a function that publishes a body with its encoded properties, ``mandatory``."""


class ShortWay:
    """The fast path: frames as bytes."""

    def __init__(self, connection: Connection, channel: PikaChannel) -> None:
        self._connection = connection
        self._channel = channel.channel_number

    def deliver(self, take: Callable[[Delivery], None]) -> Callable[..., None]:
        """Take deliveries out of the byte stream before pika sees them."""
        self._connection.deliver(self._channel, take)

        def not_called(*_: object) -> None:
            raise AssertionError

        return not_called

    def ack(self, tag: int) -> None:
        """Write the frame."""
        self._connection.write(encode_ack(self._channel, tag))

    def reject(self, tag: int) -> None:
        """Write the frame."""
        self._connection.write(encode_reject(self._channel, tag))

    def publishing(self, exchange: str, routing_key: str) -> Callable[[bytes, bytes], None]:
        """Return a function that writes the frames, which are mostly the same each time."""
        frame_max = self._connection.params.frame_max
        envelope = Envelope(self._channel, exchange, routing_key, frame_max)
        frames, send = envelope.write, self._connection.write
        return lambda body, properties: send(frames(body, properties))


class PlainWay:
    """Uses pika's public methods only."""

    def __init__(self, channel: PikaChannel) -> None:
        self._channel = channel

    def deliver(self, take: Callable[[Delivery], None]) -> Callable[..., None]:
        """Return a callback that converts pika's arguments to a Delivery."""

        def taken(_: Any, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            about = b"".join(properties.encode())
            arrived, tag, again = time.monotonic(), method.delivery_tag, method.redelivered
            try:
                check_sizes(len(body), len(about))
            except InvalidRequest as error:
                about = about if b"x-death" in about else b""
                take(Delivery(tag, about, b"", arrived, again, error, len(body)))
            else:
                take(Delivery(tag, about, body, arrived, again, None, len(body)))

        return taken

    def ack(self, tag: int) -> None:
        """As Way."""
        self._channel.basic_ack(tag, multiple=True)

    def reject(self, tag: int) -> None:
        """As Way."""
        self._channel.basic_reject(tag, requeue=False)

    def publishing(self, exchange: str, routing_key: str) -> Callable[[bytes, bytes], None]:
        """As Way."""

        def publish(body: bytes, properties: bytes) -> None:
            about = BasicProperties()
            about.decode(properties)
            self._channel.basic_publish(exchange, routing_key, body, about, mandatory=True)

        return publish


def way(connection: Connection, channel: PikaChannel) -> Way:
    """Return the fast path if it is available, else the plain one."""
    return ShortWay(connection, channel) if connection.short else PlainWay(channel)
