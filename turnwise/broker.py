"""A connection to RabbitMQ for straight-line code."""

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
"""Seconds for the answer to one AMQP method."""

MOVE_ON = 8.0
"""The same where there are other nodes: one that is frozen, or cut off from them, is left."""

CLOSE_TIMEOUT = 2.0
"""Seconds for an answer once the process was asked to stop, and for a polite goodbye; a blocked or
hung broker gives neither."""


class Unanswered(Transient):
    """An answer did not come in time."""


class Broker:
    """One connection, used from one thread in straight-line code. Made by ``connect``."""

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
        """Whether there are other nodes to move on to."""
        self.home = reached.home
        """Whether it is the node that comes first for this name."""
        self._nodes = nodes
        self._name = name
        self.blocked: str | None = None
        """Why RabbitMQ takes no publishes at the moment (an alarm); None if it does."""
        self._connection = reached.connection
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @classmethod
    def connect(cls, loop: Loop, nodes: Sequence[Node], connection_name: str) -> Self:
        """Connect to the first node that answers, as ``reach`` does."""
        return cls(loop, nodes, connection_name, reach(loop, nodes, connection_name))

    def meet_others(self) -> Iterator[tuple[Node, Self | Transient | Permanent]]:
        """Connect to each other node, one after the other: a broker, or why there is none."""
        here = self.node, self._connection.parameters.host
        for node, met in reach_others(self.loop, self._nodes, here, self._name):
            if isinstance(met, Connection):
                reached = Reached(node, met, others=False, home=False)
                yield node, type(self)(self.loop, [node], self._name, reached)
            else:
                yield node, met

    @property
    def cluster(self) -> str:
        """The name of the cluster that the node belongs to, as it said when it was met."""
        return self._connection.cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None
    ) -> None:
        if isinstance(value, Transient):
            self.node.note_trouble(self._connection.parameters.host)
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

    def channel(self, patience: float = math.inf) -> Channel:
        """Open a channel. ``patience``: seconds for an answer, if fewer than usual."""
        self.check()
        return Channel(self, self._connection, patience)

    def close(self) -> None:
        """Say goodbye, and give up on an answer after CLOSE_TIMEOUT."""
        if self._connection.is_open:
            self._connection.close()
        self.loop.wait(lambda: self._connection.failure, CLOSE_TIMEOUT)

    def _on_blocked(self, _connection: object, method: frame.Method[Any]) -> None:
        self.blocked = method.method.reason

    def _on_unblocked(self, _connection: object, _method: object) -> None:
        self.blocked = None


class Channel:
    """A channel whose methods wait for their answer. ``raw`` is pika's own, for the rest."""

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
        self.call(
            self.raw.basic_consume,
            queue=queue,
            consumer_tag=consumer_tag,
            on_message_callback=self._way.deliver(take),
        )

    def ack(self, tag: int) -> None:
        """Ack all deliveries up to this one that are not settled yet."""
        self._way.ack(tag)

    def reject(self, tag: int) -> None:
        """Have a delivery dead-lettered."""
        self._way.reject(tag)

    def publishing(self, exchange: str, routing_key: str) -> Callable[[bytes, bytes], None]:
        """Return what publishes a body with its encoded properties there, ``mandatory``.

        It does not notice that the channel has ended: call ``check()`` in each turn.
        """
        return self._way.publishing(exchange, routing_key)

    def flush(self) -> None:
        """Send what is written at once; without it, the next turn does."""
        self._connection.send_written()

    def wait(self, condition: Callable[[], object]) -> None:
        """Turn until the condition holds. Raises what ends the channel, or Unanswered in the end.

        That is after CALL_TIMEOUT or MOVE_ON, or CLOSE_TIMEOUT after it was asked to stop.
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
        """End the use of this channel with an error of the caller's."""
        self._failure = self._failure or error

    def close(self) -> None:
        """Close it. What was delivered and not settled goes back to the queue's head.

        One that waits for an answer in vain is closed once that comes.
        """
        if not (self.raw.is_closed or self.raw.is_closing):
            self.raw.close()
        with contextlib.suppress(Transient):
            self.broker.wait(lambda: self.raw.is_closed, CLOSE_TIMEOUT)

    def _on_close(self, _channel: object, error: Exception) -> None:
        self._failure = self._failure or error
