"""A connection to RabbitMQ, for straight-line code."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from pika import frame
from pika.channel import Channel as PikaChannel

from turnwise.amqp_errors import translate
from turnwise.connection import Connection
from turnwise.deliveries import Delivery
from turnwise.errors import Permanent, Stopped, Transient
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.reach import Reached, reach, reach_others
from turnwise.ways import way

CALL_TIMEOUT = 30.0
"""Seconds to wait for the answer to one AMQP method."""

MOVE_ON = 8.0
"""The same where there are other nodes: a frozen or isolated node is abandoned sooner."""

CLOSE_TIMEOUT = 2.0
"""Seconds to wait for an answer once the process was asked to stop, and for a clean close. A
blocked or hung broker answers neither."""


class Unanswered(Transient):
    """The broker did not answer in time."""


class Broker:
    """One connection, used from one thread in straight-line code. Created by ``connect``."""

    def __init__(
        self,
        loop: Loop,
        nodes: Sequence[Node],
        name: str,
        reached: Reached,
    ) -> None:
        self.loop = loop
        self.node = reached.node
        self.others = reached.others
        """Whether there are other nodes to fail over to."""
        self.home = reached.home
        """Whether this is the preferred node for this connection name."""
        self._nodes = nodes
        self._name = name
        self.blocked: str | None = None
        """Why RabbitMQ accepts no publishes at the moment (an alarm); None if it accepts them."""
        self._connection = reached.connection
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @classmethod
    def connect(cls, loop: Loop, nodes: Sequence[Node], connection_name: str) -> Self:
        """Connect to the first node that answers, as ``reach`` does."""
        return cls(loop, nodes, connection_name, reach(loop, nodes, connection_name))

    def meet_others(self) -> Iterator[tuple[Node, Self | Transient | Permanent]]:
        """Connect to each other node in turn; yield a Broker for it, or the error."""
        here = self.node, self._connection.parameters.host
        for node, met in reach_others(self.loop, self._nodes, here, self._name):
            if isinstance(met, Connection):
                reached = Reached(node, met, others=False, home=False)
                yield node, type(self)(self.loop, [node], self._name, reached)
            else:
                yield node, met

    @property
    def cluster(self) -> str:
        """The name of the node's cluster, as the handshake reported it."""
        return self._connection.cluster

    @property
    def version(self) -> str:
        """The release of the node, such as ``4.3.6``, as the handshake reported it."""
        return self._connection.version

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None
    ) -> None:
        if isinstance(value, Transient):
            self.node.note_trouble(self._connection.parameters.host)
        self.close()

    def check(self) -> None:
        """Raise the error that ended the connection, if it has ended."""
        if self._connection.failure is not None:
            raise translate(self._connection.failure, self.node, self._connection.parameters.close)

    def turn(self, timeout: float) -> None:
        """Run one turn of the loop, then check()."""
        self.loop.turn(timeout)
        self.check()

    def wait(self, condition: Callable[[], object], timeout: float) -> bool:
        """Like Loop.wait, but raise if the connection ends."""

        def checked() -> object:
            self.check()
            return condition()

        return self.loop.wait(checked, timeout)

    def sleep(self, seconds: float) -> None:
        """Like Loop.sleep, but raise if the connection ends."""
        self.wait(lambda: self.loop.stopping, seconds)
        if self.loop.stopping:
            raise Stopped

    def channel(self, patience: float = math.inf) -> Channel:
        """Open a channel. ``patience``: seconds to wait for an answer, if fewer than usual."""
        self.check()
        return Channel(self, self._connection, patience)

    def close(self) -> None:
        """Close the connection; wait at most CLOSE_TIMEOUT for the answer."""
        if self._connection.is_open:
            self._connection.close()
        self.loop.wait(lambda: self._connection.failure, CLOSE_TIMEOUT)

    def _on_blocked(self, _connection: object, method: frame.Method[Any]) -> None:
        self.blocked = method.method.reason

    def _on_unblocked(self, _connection: object, _method: object) -> None:
        self.blocked = None


class Channel:
    """A channel whose methods wait for their answer. ``raw`` is pika's channel, for all others."""

    def __init__(self, broker: Broker, connection: Connection, patience: float) -> None:
        self.broker = broker
        self._connection = connection
        self._patience = patience
        self._failure: BaseException | None = None
        opened: list[object] = []
        self.raw: PikaChannel = connection.channel(on_open_callback=opened.append)
        self.raw.add_on_close_callback(self._on_close)
        self._way = way(connection, self.raw)
        try:
            self.wait(lambda: opened)
        except Transient:
            self.close()
            raise

    def check(self) -> None:
        """Raise the error that ended the channel or its connection, if one has ended.

        Call it in each turn: the loop keeps running when only the channel is closed.
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
        """Start consuming. ``take(delivery)`` must only record it: an exception escapes the loop.

        It is called for every delivery, also while the consumer is being cancelled.
        """
        self.call(
            self.raw.basic_consume,
            queue=queue,
            consumer_tag=consumer_tag,
            on_message_callback=self._way.deliver(take),
        )

    def ack(self, tag: int) -> None:
        """Ack all unsettled deliveries up to and including this one."""
        self._way.ack(tag)

    def reject(self, tag: int) -> None:
        """Reject a delivery, which dead-letters it."""
        self._way.reject(tag)

    def publishing(self, exchange: str, routing_key: str) -> Callable[[bytes, bytes], None]:
        """Return a function that publishes a body with its encoded properties, ``mandatory``.

        It does not notice when the channel has ended: call ``check()`` in each turn.
        """
        return self._way.publishing(exchange, routing_key)

    def flush(self) -> None:
        """Send what is buffered now, rather than in the next turn."""
        self._connection.send_written()

    def wait(self, condition: Callable[[], object]) -> None:
        """Turn until the condition holds. Raises the error that ends the channel, or Unanswered.

        Unanswered is raised after CALL_TIMEOUT or MOVE_ON, or CLOSE_TIMEOUT after the loop was
        asked to stop.
        """
        loop = self.broker.loop
        begun = time.monotonic()

        def answered() -> object:
            self.check()
            return condition()

        if not loop.stopping:
            patience = min(self._patience, MOVE_ON if self.broker.others else CALL_TIMEOUT)
            loop.wait(lambda: answered() or loop.stopping, patience)
            if answered():
                return
        if not (loop.stopping and loop.wait(answered, CLOSE_TIMEOUT)):
            seconds = time.monotonic() - begun
            raise Unanswered(f"{self.broker.node} has not answered for {seconds:.0f} s")

    def fail(self, error: Exception) -> None:
        """Have check() raise ``error`` from now on, unless the channel has failed already."""
        self._failure = self._failure or error

    def close(self) -> None:
        """Close the channel. Unsettled deliveries return to the head of the queue.

        A channel that is still waiting for an answer is closed once the answer arrives.
        """
        if not (self.raw.is_closed or self.raw.is_closing):
            self.raw.close()
        with contextlib.suppress(Transient):
            self.broker.wait(lambda: self.raw.is_closed, CLOSE_TIMEOUT)

    def _on_close(self, _channel: object, error: Exception) -> None:
        self._failure = self._failure or error
