"""RabbitMQ -> database: the worker's turn. Take the deliveries, store them, settle them; repeat."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from turnwise.broker import Channel
from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest, Transient
from turnwise.inquiry import Inquiry
from turnwise.log import event
from turnwise.message import Request
from worker.apart import Apart, is_hostile, is_needed
from worker.remarks import Remarks
from worker.settle import ACK, Reject, Verdict, decide, settle
from worker.store import Outcome
from worker.vitals import Batch, Vitals

log = logging.getLogger(__name__)

MAX_BATCH_BYTES = 400 * 1024
"""The most bytes of bodies in one statement, with each row's overhead. Escaping may double them,
which stays below the smallest ``max_allowed_packet`` in use (1 MB), and a slow link still carries
the statement within the timeout."""

_ROW_BYTES = 64
"""A row's bytes besides its body and the worker's name: a function call, quotes and commas."""

FINISH_TIMEOUT = 2.0
"""Seconds to serve what had arrived by SIGTERM; large requests make several batches."""

Decoded = Sequence[Request | InvalidRequest]

Store = Callable[[Sequence[Delivery], Decoded, Callable[[], object] | None], list[Outcome]]


class Consumer:
    """Takes turns on one channel, as ``name``, until the loop is asked to stop.

    With ``prefetch`` 1 turns are strict: one unacked request at a time. With more, the same code
    serves the deliveries that have arrived, up to that many, with one statement, one commit and one
    ack. It never waits for more to arrive.

    ``store(batch, decoded, meanwhile)`` commits the requests in ``decoded`` and returns their
    outcomes, or only those of the first ones if time runs out. It raises when retrying is
    pointless. It may call ``meanwhile()`` while it waits for the database.

    Any error that closes the channel ends the consumer with Transient. The consumer then forgets
    its unsettled deliveries: their tags are void, and the broker redelivers them.

    ``between_turns()`` is called once everything is settled and logged. It returns the seconds
    after which to call it again if nothing arrives. ``finish_within`` seconds after a stop, the
    consumer starts no further batch.
    """

    def __init__(
        self,
        channel: Channel,
        queue: str,
        name: str,
        prefetch: int,
        store: Store,
        between_turns: Callable[[], float],
        vitals: Vitals,
        finish_within: float = FINISH_TIMEOUT,
    ) -> None:
        self._channel = channel
        self._loop = channel.broker.loop
        self._name = name
        self._prefetch = prefetch
        self._store = store
        self._between_turns = between_turns
        self._vitals = vitals
        self._finish_within = finish_within
        self._arrived: deque[Delivery] = deque()
        self._ahead: list[Request | InvalidRequest] = []
        """The first arrived deliveries, already decoded."""
        self._meanwhile = self._read_ahead if prefetch > 1 else None
        self._unsettled: list[tuple[int, Verdict]] = []
        self._finishing = False
        self._remarks = Remarks(channel.broker.loop, name)
        channel.raw.add_on_cancel_callback(self._on_cancel)
        channel.call(channel.raw.basic_qos, prefetch_count=prefetch)
        # The callback only queues: pika treats any exception in it as a broken connection.
        channel.consume(queue, name, self._arrived.append)
        self._inquiry = Inquiry(channel, queue, self._arrived)
        self._apart = Apart(channel, queue) if is_needed(channel.broker.version) else None

    def serve(self, progress: Callable[[], None], until: float = math.inf) -> None:
        """Serve turn by turn, calling ``progress()`` after each, until asked to stop; then finish.

        ``until`` is the latest time to stop at (monotonic).
        """
        try:
            self._serve(progress, until)
        finally:
            self._remarks.close()

    def _serve(self, progress: Callable[[], None], until: float) -> None:
        idle = 0.0
        while not self._loop.stopping and time.monotonic() < until:
            # Reads new deliveries and answers heartbeats.
            self._loop.turn(0 if self._arrived else idle)
            self._channel.check()
            if self._arrived and not self._loop.stopping:
                self._inquiry.heard()
                self._serve_batch()
                self._inquiry.heard()  # the database may have taken long
                progress()
                self._check_delivery()
            else:
                self._inquiry.look()
            if not self._loop.stopping:
                idle = self._between_turns()
        self._finish()

    def _check_delivery(self) -> None:
        """Raise Transient if the queue has a message and takes this idle consumer for a busy one.

        It lost its leader, or one of our acks.
        """
        if self._inquiry.withheld:
            raise Transient(
                f"{self._channel.broker.node} had a request ready and did not deliver it to a "
                "consumer that held none"
            )

    def _finish(self) -> None:
        """Serve the held deliveries, and leave with nothing to return to the queue.

        A returned request loses its place in the queue, and RabbitMQ 4.3 counts deliveries held by
        a closing channel against the delivery limit. So nothing is acked until the consumer is
        cancelled: while the prefetch window is full, nothing more can arrive.
        """
        name = "worker.stopping" if self._loop.stopping else "worker.moving"
        event(log, logging.INFO, name, worker=self._name)
        self._finishing = True
        until = time.monotonic() + self._finish_within
        # The reply to basic.qos arrives after all deliveries that were on their way.
        self._channel.call(self._channel.raw.basic_qos, prefetch_count=self._prefetch)
        self._serve_arrived(until)
        self._channel.call(self._channel.raw.basic_cancel, consumer_tag=self._name)
        self._serve_arrived(until)
        self._settle()
        self._channel.close()

    def _serve_arrived(self, until: float) -> None:
        while self._arrived and time.monotonic() < until:
            self._serve_batch()

    def _serve_batch(self) -> None:
        batch = take_batch(self._arrived, self._name)
        size = len(batch)
        self._vitals.in_hand = size
        decoded, self._ahead = self._ahead[:size], self._ahead[size:]
        if len(decoded) < size:
            decoded += decode(batch[len(decoded) :])
        begun = time.monotonic()
        outcomes = self._store(batch, decoded, self._meanwhile)
        committed = time.monotonic()
        results = results_of(decoded, outcomes)
        if len(results) < size:
            # Time ran out before the others.
            size = len(results)
            batch, decoded = batch[:size], decoded[:size]
        all_served = results.count(Outcome.SERVED) == size
        if not all_served:
            for delivery, result in zip(batch, results, strict=True):
                verdict = self._spare_broker(delivery, decide(result))
                self._unsettled.append((delivery.tag, verdict))
        elif batch:
            # One ack covers every delivery up to its tag.
            self._unsettled.append((batch[-1].tag, ACK))
        # An ack makes room for new deliveries, which must not arrive while finishing.
        if not (self._finishing or self._loop.stopping):
            self._settle()
        # The broker now prepares the next delivery, which leaves time for metrics and logs.
        self._vitals.count(results)
        if self._vitals.on_batch and batch:
            waited = committed - batch[0].arrived
            self._vitals.on_batch(Batch(size, committed - begun, waited))
        if self._vitals.on_served:
            pairs = zip(decoded, results, strict=True)
            new = [each for each, result in pairs if result is Outcome.SERVED]
            self._vitals.on_served([each for each in new if isinstance(each, Request)])
        self._remarks.settled(batch, decoded, results)

    def _read_ahead(self) -> None:
        """Read new deliveries and decode the next batch while the database works."""
        self._loop.turn(0)
        if not self._ahead:
            self._ahead = decode(next_batch(self._arrived, self._name))

    def _spare_broker(self, delivery: Delivery, verdict: Verdict) -> Verdict:
        """Return the verdict; copy what the broker cannot dead-letter, and ack it instead."""
        if self._apart and isinstance(verdict, Reject) and is_hostile(delivery.properties):
            self._apart.keep(delivery)
            return ACK
        return verdict

    def _settle(self) -> None:
        settle(self._channel, self._unsettled)
        self._unsettled.clear()
        self._vitals.in_hand = 0

    def _on_cancel(self, _method: object) -> None:
        # The queue was deleted, its leader moved, or an ack took too long.
        self._channel.fail(Transient(f"{self._channel.broker.node} cancelled the consumer"))


def next_batch(arrived: Iterable[Delivery], name: str) -> list[Delivery]:
    """Return the first deliveries that fit into one statement of worker ``name``; at least one."""
    batch: list[Delivery] = []
    size, row = 0, len(name) + _ROW_BYTES
    for delivery in arrived:
        size += len(delivery.body) + row
        if batch and size > MAX_BATCH_BYTES:
            break
        batch.append(delivery)
    return batch


def take_batch(arrived: deque[Delivery], name: str) -> list[Delivery]:
    """Remove the next batch from the front of ``arrived`` and return it."""
    batch = next_batch(arrived, name)
    if len(batch) == len(arrived):
        arrived.clear()
    else:
        for _ in batch:
            arrived.popleft()
    return batch


def decode(batch: Iterable[Delivery]) -> list[Request | InvalidRequest]:
    """Decode each delivery into a request, or into the error that says why it is not one."""
    receive = Request.receive
    decoded: list[Request | InvalidRequest] = []
    for delivery in batch:
        try:
            decoded.append(receive(delivery.body, delivery.properties))
        except InvalidRequest as error:
            # The body of a delivery that is too large was discarded.
            decoded.append(delivery.problem or error)
    return decoded


def results_of(
    decoded: Sequence[Request | InvalidRequest], outcomes: Sequence[Outcome]
) -> Sequence[Outcome | InvalidRequest]:
    """Return the result of each delivery: a request's outcome, or the InvalidRequest itself.

    If there are fewer outcomes than requests, the results end before the first request without one.
    """
    if len(outcomes) == len(decoded):
        return outcomes
    results: list[Outcome | InvalidRequest] = []
    left = iter(outcomes)
    for each in decoded:
        result = next(left, None) if isinstance(each, Request) else each
        if result is None:
            break
        results.append(result)
    return results
