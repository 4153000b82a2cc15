"""A connection to RabbitMQ for straight-line code; the one place that translates pika's errors."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from pika import frame, spec
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.channel import Channel as PikaChannel
from pika.exceptions import AMQPError, AMQPHeartbeatTimeout, ChannelClosedByBroker

from turnwise.connection import Connection
from turnwise.deliveries import Delivery, encode_ack, encode_reject
from turnwise.errors import Permanent, Refused, Stopped, Transient
from turnwise.loop import Loop
from turnwise.node import CONNECT_TIMEOUT, Node

CALL_TIMEOUT = 30.0
"""Seconds for the answer to one AMQP method."""

CLOSE_TIMEOUT = 2.0
"""Seconds for an answer once the process was asked to stop, and for a polite goodbye; a blocked or
hung broker gives neither."""

_ACCESS_REFUSED = 403
_NOT_ALLOWED = 530


class Broker:
    """One connection, used from one thread in straight-line code. Made by ``connect``."""

    def __init__(self, loop: Loop, node: Node, connection: Connection) -> None:
        self.loop = loop
        self.node = node
        self.blocked: str | None = None
        """Why RabbitMQ takes no publishes at the moment (an alarm); None if it does."""
        self._connection = connection
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @classmethod
    def connect(cls, loop: Loop, nodes: Sequence[Node], connection_name: str) -> Self:
        """Connect to the first node that answers, in random order.

        Raises Transient if none does, Refused or Permanent if one says that none ever will,
        Stopped if the loop was asked to stop.
        """
        failure = Transient("no RabbitMQ node to connect to")
        for node in random.sample(nodes, len(nodes)):
            try:
                return cls(loop, node, _connect(loop, node, connection_name))
            except Transient as error:
                failure = error
        raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None
    ) -> None:
        self.close()

    def check(self) -> None:
        """Raise what ended the connection, if something did."""
        if self._connection.failure is not None:
            raise translate(self._connection.failure, self.node, self._connection.parameters.close)

    def turn(self, timeout: float) -> None:
        """One turn of the loop, and a check."""
        self.loop.turn(timeout)
        self.check()

    def wait(self, condition: Callable[[], object], timeout: float) -> bool:
        """As Loop.wait, but raises if the connection ends."""

        def checked() -> object:
            self.check()
            return condition()

        return self.loop.wait(checked, timeout)

    def sleep(self, seconds: float) -> None:
        """As Loop.sleep, but raises if the connection ends."""
        self.wait(lambda: self.loop.stopping, seconds)
        if self.loop.stopping:
            raise Stopped

    def channel(self) -> Channel:
        """Open a channel."""
        self.check()
        return Channel(self, self._connection)

    def close(self) -> None:
        """Say goodbye, and give up on an answer after CLOSE_TIMEOUT."""
        if self._connection.is_open:
            self._connection.close()
        self.loop.wait(lambda: self._connection.failure, CLOSE_TIMEOUT)

    def _on_blocked(self, _connection: object, method: frame.Method[Any]) -> None:
        self.blocked = method.method.reason

    def _on_unblocked(self, _connection: object, _method: object) -> None:
        self.blocked = None


def _connect(loop: Loop, node: Node, connection_name: str) -> Connection:
    parameters = node.parameters(connection_name)
    done: list[Any] = []
    Connection.create_connection([parameters], done.append, loop)
    try:
        # pika ends it, after CONNECT_TIMEOUT for each address of the host; ours is for its bugs.
        loop.wait(lambda: done or loop.stopping, 3 * CONNECT_TIMEOUT)
    except ValueError as error:
        # One of them: a peer that hangs up in the very moment of the connect is an error of the
        # caller's to pika, raised out of its callback.
        if isinstance(error.__context__, OSError):
            raise Transient(f"cannot reach {node}: {error.__context__.strerror}") from error
        raise
    if loop.stopping:
        # Neither abort() nor close() stands a handshake under way in pika 1.4: both fail an
        # assertion of their own. The process is about to end, and the socket with it.
        raise Stopped
    if not done:
        raise Transient(f"{node} does not answer")
    if isinstance(done[0], BaseException):
        raise translate(done[0], node, parameters.close)
    connection: Connection = done[0]
    return connection


class Channel:
    """A channel whose methods wait for their answer. ``raw`` is pika's own, for the rest."""

    def __init__(self, broker: Broker, connection: Connection) -> None:
        self.broker = broker
        self._connection = connection
        self._failure: BaseException | None = None
        opened: list[object] = []
        self.raw: PikaChannel = connection.channel(on_open_callback=opened.append)
        self.raw.add_on_close_callback(self._on_close)
        self.wait(lambda: opened)

    def check(self) -> None:
        """Raise what ended the channel or its connection, if something did.

        To be called in each turn: pika's loop goes on when only the channel is closed.
        """
        self.broker.check()
        if self._failure is not None:
            raise translate(self._failure, self.broker.node)

    def call(self, method: Callable[..., object], **arguments: Any) -> Any:
        """Call a method of ``raw`` and return the broker's answer."""
        answer: list[Any] = []
        self.check()
        method(**arguments, callback=answer.append)
        self.wait(lambda: answer)
        return answer[0].method

    def consume(self, queue: str, consumer_tag: str, take: Callable[[Delivery], None]) -> None:
        """Begin to consume. ``take(delivery)`` only notes it: what it raises ends all.

        It is called for all that comes, also while the consumer is being cancelled.
        """
        self._connection.deliver(self.raw.channel_number, take)
        self.call(
            self.raw.basic_consume,
            queue=queue,
            consumer_tag=consumer_tag,
            on_message_callback=_not_called,
        )

    def ack(self, tag: int) -> None:
        """Ack all deliveries up to this one that are not settled yet."""
        self._connection.write(encode_ack(self.raw.channel_number, tag))

    def reject(self, tag: int) -> None:
        """Have a delivery dead-lettered."""
        self._connection.write(encode_reject(self.raw.channel_number, tag))

    def flush(self) -> None:
        """Send what is written at once; without it, the next turn does."""
        self._connection.send_written()

    def wait(self, condition: Callable[[], object]) -> None:
        """Turn until the condition holds. Raises what ends the channel, or Transient in the end.

        That is after CALL_TIMEOUT, or CLOSE_TIMEOUT after the process was asked to stop.
        """
        loop = self.broker.loop
        begun = time.monotonic()
        until = begun + (CLOSE_TIMEOUT if loop.stopping else CALL_TIMEOUT)
        hurried = loop.stopping
        while not condition():
            self.check()
            if loop.stopping and not hurried:
                hurried = True
                until = min(until, time.monotonic() + CLOSE_TIMEOUT)
            now = time.monotonic()
            if now >= until:
                raise Transient(f"{self.broker.node} has not answered for {now - begun:.0f} s")
            loop.turn(until - now)
        self.check()

    def fail(self, error: Exception) -> None:
        """End the use of this channel with an error of the caller's."""
        self._failure = self._failure or error

    def close(self) -> None:
        """Close it. What was delivered and not settled goes back to the queue's head."""
        if self.raw.is_open:
            self.raw.close()
        with contextlib.suppress(Transient):
            self.broker.wait(lambda: self.raw.is_closed, CLOSE_TIMEOUT)

    def _on_close(self, _channel: object, error: Exception) -> None:
        self._failure = self._failure or error


def _not_called(*_: object) -> None:
    """Take no delivery: the connection has taken it before pika saw it."""


def translate(
    error: BaseException, node: Node, close: spec.Connection.Close | None = None
) -> Transient | Permanent:
    """Turn an error of pika's into one of ours. ``close`` is the broker's last word, if any."""
    if isinstance(error, Transient | Permanent):
        return error
    if close is not None:
        return _translate_close(close, node)
    if isinstance(error, ChannelClosedByBroker):
        kind = Refused if error.reply_code == _ACCESS_REFUSED else Transient
        return kind(f"{node} closed the channel: {error.reply_text}", code=error.reply_code)
    if isinstance(error, AMQPHeartbeatTimeout):
        return Transient(f"{node} has sent nothing for {node.heartbeat} s; heartbeats are missing")
    return _translate_io(_root(error), node)


def _translate_close(close: spec.Connection.Close, node: Node) -> Transient | Permanent:
    if close.reply_code == _ACCESS_REFUSED:
        return Refused(
            f"{node} refuses the user {node.username!r}: check the user name and password "
            "in AMQP_URL, and that the user may use this virtual host",
            code=close.reply_code,
        )
    if close.reply_code == _NOT_ALLOWED:
        return Permanent(
            f"{node} does not let the user {node.username!r} in: {close.reply_text}. Create "
            "the virtual host (rabbitmqctl add_vhost), grant it (rabbitmqctl "
            "set_permissions), or change AMQP_URL",
            code=close.reply_code,
        )
    return Transient(f"{node} closed the connection: {close.reply_text}", code=close.reply_code)


def _translate_io(error: BaseException, node: Node) -> Transient | Permanent:
    if isinstance(error, socket.gaierror):
        return Transient(f"cannot find the host of {node}: {error.strerror}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Permanent(
            f"{node} shows a certificate that is not trusted: {error.verify_message}. If "
            "its authority is one of your own, name it in AMQP_URL with ?cacertfile=FILE"
        )
    if isinstance(error, TimeoutError | AMQPConnectorStackTimeout):
        return Transient(f"{node} does not answer")
    if isinstance(error, OSError):
        return Transient(f"cannot reach {node}: {error.strerror or error}")
    if isinstance(error, AMQPError):
        return Transient(f"lost the connection to {node}")
    return Transient(f"lost the connection to {node}: {error!r}")


def _root(error: BaseException) -> BaseException:
    """Find the cause in the exceptions that pika's connection workflow wraps around it."""
    while True:
        wrapped = (
            *getattr(error, "exceptions", ())[-1:],
            getattr(error, "exception", None),
            *error.args[:1],
        )
        inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
        if inner is None:
            return error
        error = inner
