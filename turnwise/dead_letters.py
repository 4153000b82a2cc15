"""The dead letters of a pipeline: list them, replay them, drop them.

One reader reads them at a time; its prefetch bounds the unsettled letters. A quorum queue places a
returned message behind all that were returned before it, and delivers the returned ones first. So a
reader that stopped among the returned letters would change their order. A reader here continues to
the first letter that was never delivered before, which keeps the order, however often it reads.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pika import frame, spec

from turnwise.broker import CALL_TIMEOUT, Broker
from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest, Permanent, Transient
from turnwise.letter import (
    Letter,
    Whole,
    identify,
    read,
    read_whole,
    to_replay,
    was_returned,
)
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.topology import NOT_FOUND, Topology

WINDOW = 100
"""Letters to prefetch at least. They may be large."""

ALL_WINDOW = 500
"""Letters to prefetch when each is settled as it arrives."""

_MAX_WINDOW = 2**16 - 1
"""The largest prefetch count of AMQP."""

_GROWTH = 4
"""The factor by which each further window grows, for a reader that holds all that it has read."""

_QUIET = 1.0
"""Seconds without a letter after which the reader asks the queue for its length."""

_ACK_EVERY = 100
"""Letters that one ack covers when all letters are dropped."""

OTHERS_TIMEOUT = 5.0
"""Seconds to wait for another reader to finish."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)

Progress = Callable[[int, int], None]
"""Called with the number of letters read, and the number to read."""

Choice = Collection[str] | Callable[[Letter], bool] | None
"""Which letters to settle: those with these IDs, those that match the function, or all (None)."""


def _silent(_done: int, _total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of a replay or a drop. The broker has confirmed that ``done`` letters are gone.

    ``missing``: IDs that no letter has. ``unreadable``: letters that stay, since their properties
    cannot be read and they cannot be published again.
    """

    done: int
    missing: frozenset[str]
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """The ``letters`` that match, of the oldest ``looked`` letters, of all that were ``there``."""

    letters: list[Letter]
    looked: int
    there: int


@contextlib.contextmanager
def look(nodes: Sequence[Node], queue: str, name: str) -> Iterator[DeadLetters]:
    """Connect as ``name``, to read the dead letters of ``queue`` once."""
    with (
        contextlib.closing(Loop()) as loop,
        Broker.connect(loop, nodes, name) as broker,
        contextlib.closing(DeadLetters(broker, Topology(queue))) as letters,
    ):
        yield letters


class DeadLetters:
    """One pass over the dead letters. Unsettled letters return to their places on ``close``.

    An object serves for one pass: a list, search, find, replay or drop. They raise Transient when
    the connection is lost or another reader is active; its text reports what was done by then.
    """

    def __init__(self, broker: Broker, topology: Topology) -> None:
        self._broker = broker
        self._topology = topology
        self._channel = broker.channel()
        self._arrived: deque[Delivery] = deque()
        self._consumers: list[str] = []
        self._window = 0  # of all consumers together
        self._received = 0
        self._settled = 0
        self._publishes = 0
        self._awaited: dict[int, int] = {}  # number of a publish -> delivery tag
        self._returned = False
        raw = self._channel.raw
        raw.add_on_cancel_callback(self._on_cancel)
        raw.add_on_return_callback(self._on_return)

    @property
    def settled(self) -> int:
        """How many letters were replayed or dropped so far."""
        return self._settled

    def list(self, limit: int, progress: Progress = _silent) -> list[Letter]:
        """Return the oldest ``limit`` letters, oldest first."""
        return self.search(limit, limit, progress=progress).letters

    def search(
        self,
        limit: int,
        most: int,
        matching: Callable[[Letter], bool] = lambda _: True,
        progress: Progress = _silent,
    ) -> Found:
        """Return the oldest ``limit`` letters that match, oldest first, of the oldest ``most``.

        A letter can be read only after all those before it.
        """
        looked = matched = 0
        there = 0

        def note(done: int, total: int) -> None:
            nonlocal there
            there = total
            progress(done, total)

        def letters() -> Iterator[Letter]:
            nonlocal looked, matched
            for delivery in self._read(max(min(limit, most), WINDOW), note):
                looked += 1
                letter = read(delivery, self._topology.queue)
                if looked <= most and matching(letter):
                    matched += 1
                    yield letter
                if (looked >= most or matched >= limit) and not was_returned(delivery):
                    return

        # The letters are in order, unless a reader was killed between two of its windows.
        found = heapq.nsmallest(limit, letters(), key=lambda letter: letter.died_at or _BEGINNING)
        return Found(found, min(looked, most), there)

    def find(self, id_: str, most: int) -> Whole | None:
        """Return a letter in full, or None if it is not among the oldest ``most``."""
        whole: Whole | None = None
        for count, delivery in enumerate(self._read(WINDOW, _silent), 1):
            if whole is None and identify(delivery) == id_:
                whole = read_whole(delivery, self._topology.queue)
            if (whole or count >= most) and not was_returned(delivery):
                break
        return whole

    def drop(self, ids: Choice, progress: Progress = _silent) -> Settled:
        """Remove letters permanently."""
        missing = _named(ids)
        try:
            unacked = None
            for delivery in self._chosen(ids, missing, progress):
                self._settled += 1
                unacked = delivery.tag
                if ids is not None:
                    self._channel.raw.basic_ack(delivery.tag)
                elif self._settled % _ACK_EVERY == 0:
                    self._channel.ack(delivery.tag)
                    unacked = None
            if ids is None and unacked:
                self._channel.ack(unacked)
            self._confirm_acks()
        except Transient as error:
            # A consumer with a full window receives nothing further, so each later delivery
            # proves that an ack arrived.
            sure = max(0, self._received - self._window) if ids is None else 0
            raise self._broken_off(error, "dropped", sure, self._settled - sure) from error
        return Settled(self._settled, frozenset(missing))

    def replay(self, ids: Choice, progress: Progress = _silent) -> Settled:
        """Publish letters to the queue they came from, and remove each once it is confirmed."""
        missing = _named(ids)
        unreadable = 0
        try:
            self._channel.call(
                self._channel.raw.confirm_delivery, ack_nack_callback=self._on_confirm
            )
            for delivery in self._chosen(ids, missing, progress):
                try:
                    self._publish(delivery)
                except InvalidRequest:
                    unreadable += 1
            self._channel.wait(lambda: not self._awaited)
            self._confirm_acks()
        except Transient as error:
            raise self._broken_off(error, "replayed", self._settled, len(self._awaited)) from error
        return Settled(self._settled, frozenset(missing), unreadable)

    def close(self) -> None:
        """Return the unsettled letters to the queue, in order."""
        self._channel.close()

    # -- reading

    def _chosen(self, ids: Choice, missing: set[str], progress: Progress) -> Iterator[Delivery]:
        """Yield the chosen letters, and remove their IDs from ``missing``."""
        for delivery in self._read(ALL_WINDOW if ids is None else WINDOW, progress):
            if ids is None:
                yield delivery
            elif callable(ids):
                if ids(read(delivery, self._topology.queue)):
                    yield delivery
                continue
            elif (found := identify(delivery)) in ids:
                missing.discard(found)
                yield delivery
            if ids is not None and not missing and not was_returned(delivery):
                return

    def _read(self, window: int, progress: Progress) -> Iterator[Delivery]:
        """Yield the letters that are there now; each is held until it is settled, or ``close``.

        Their number is fixed at the start: a replayed letter may come back at once.
        """
        there = self._alone()
        for number in range(there):
            if not self._arrived and not self._wait_for_one(
                window * _GROWTH ** len(self._consumers)
            ):
                return
            progress(number, there)
            self._received += 1
            yield self._arrived.popleft()
        progress(there, there)

    def _wait_for_one(self, window: int) -> bool:
        """Wait for a letter; return False if the rest has been removed meanwhile."""
        quiet = 0.0
        while not self._turn_until(lambda: self._arrived, 0 if self._all_in_hand() else _QUIET):
            if self._all_in_hand():
                self._consume(min(window, _MAX_WINDOW))
            elif self._count().message_count == 0 and not self._arrived:
                return False
            elif (quiet := quiet + _QUIET) >= CALL_TIMEOUT:
                raise Transient(f"{self._broker.node} has delivered no letter for {quiet:.0f} s")
        return True

    def _all_in_hand(self) -> bool:
        """Whether the windows are full of letters that will stay unsettled."""
        return self._received - self._settled - len(self._awaited) >= self._window

    def _consume(self, window: int) -> None:
        """Prefetch up to ``window`` more letters.

        The queue takes them back in the order of the consumers' names.
        """
        name = f"letters-{len(self._consumers):06}"
        raw = self._channel.raw
        self._channel.call(raw.basic_qos, prefetch_count=window)
        if self._consumers:
            self._channel.call(
                raw.basic_consume,
                queue=self._topology.dead,
                consumer_tag=name,
                on_message_callback=_not_called,
            )
        else:
            self._channel.consume(self._topology.dead, name, self._arrived.append)
        self._consumers.append(name)
        self._window += window

    def _alone(self) -> int:
        """Wait until there is no other reader; return the number of letters."""
        deadline = time.monotonic() + OTHERS_TIMEOUT
        while (found := self._count()).consumer_count:
            if time.monotonic() > deadline:
                raise Transient(
                    f"another process is reading {self._topology.dead!r} on {self._broker.node}, "
                    "and two at a time would mix up the order; try again later"
                )
            self._broker.sleep(_QUIET / 4)
        return int(found.message_count)

    def _count(self) -> Any:
        try:
            return self._channel.call(
                self._channel.raw.queue_declare, queue=self._topology.dead, passive=True
            )
        except Transient as error:
            if error.code != NOT_FOUND:
                raise
            raise Permanent(
                f"{self._broker.node} has no queue {self._topology.dead!r}: check --queue and the "
                "virtual host; the queue is made when the first worker starts",
                code=error.code,
            ) from None

    # -- settling

    def _publish(self, delivery: Delivery) -> None:
        self._channel.raw.basic_publish(
            exchange=self._topology.exchange,
            routing_key=self._topology.queue,
            body=delivery.body,
            properties=to_replay(delivery),
            mandatory=True,
        )
        self._publishes += 1
        self._awaited[self._publishes] = delivery.tag

    def _confirm_acks(self) -> None:
        """Return once the queue has processed all acks.

        Cancelling a consumer is a command to the queue like an ack, and is answered when done.
        """
        for name in self._consumers:
            self._channel.call(self._channel.raw.basic_cancel, consumer_tag=name)

    def _broken_off(self, error: Transient, what: str, sure: int, unknown: int) -> Transient:
        return Transient(
            f"{error}. {what} for certain: {sure:,}; not known: {unknown:,}. The rest is as it "
            "was; what is not known is harmless to try again",
            code=error.code,
        )

    def _turn_until(self, condition: Callable[[], object], timeout: float) -> bool:
        def checked() -> object:
            self._channel.check()
            return condition()

        return self._broker.wait(checked, timeout)

    def _on_confirm(self, method: frame.Method[Any]) -> None:
        number, taken = method.method.delivery_tag, isinstance(method.method, spec.Basic.Ack)
        if not taken or self._returned:
            self._channel.fail(
                Transient(
                    f"{self._broker.node} does not accept letters back into "
                    f"{self._topology.queue!r}; they stay dead letters"
                )
            )
            return
        numbers = [number]
        if method.method.multiple:
            numbers = [each for each in self._awaited if each <= number]
        for each in numbers:
            self._channel.raw.basic_ack(self._awaited.pop(each))
            self._settled += 1

    def _on_return(self, *_: object) -> None:
        # The return arrives before the ack, which then confirms nothing.
        self._returned = True

    def _on_cancel(self, _method: object) -> None:
        self._channel.fail(Transient(f"{self._broker.node} cancelled the consumer"))


def _named(ids: Choice) -> set[str]:
    return set() if ids is None or callable(ids) else set(ids)


def _not_called(*_: object) -> None:
    """Never called: the connection takes each delivery before pika sees it."""
