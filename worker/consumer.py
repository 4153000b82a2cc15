"""RabbitMQ -> database: the worker's turn. Take what has arrived, store it, settle it; next."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from turnwise.broker import Channel
from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest, Transient
from turnwise.inquiry import Inquiry
from turnwise.log import event
from turnwise.message import Request, decode_properties
from worker.apart import Apart, is_hostile
from worker.settle import ACK, Reject, Verdict, decide, settle
from worker.store import Outcome
from worker.vitals import Batch, Vitals

log = logging.getLogger(__name__)

MAX_BATCH_BYTES = 400 * 1024
"""Bodies in one statement, and what each row has besides. Escaped they may double, which stays
below the servers' smallest ``max_allowed_packet`` in use (1 MB), and a slow link carries it within
the timeout."""

_ROW_BYTES = 64
"""What a row has besides its body and the worker's name: a function call, quotes and commas."""

FINISH_TIMEOUT = 2.0
"""Seconds for batches that had arrived when SIGTERM came; there are several if they are large."""

Store = Callable[[Sequence[Delivery], Sequence[Request | InvalidRequest]], list[Outcome]]


class Consumer:
    """Takes turns on one channel, as ``name``, until the loop is asked to stop.

    ``prefetch`` 1 is the strict turn: one request in hand. With more, the same code takes what has
    arrived, up to that many, in one statement, one commit and one ack. It never waits for more.

    ``store(batch, decoded)`` returns the outcomes of the requests among what was decoded, once they
    are committed: of the first ones only if there is no time for more. It raises when there is no
    point in trying. Whatever ends the channel ends the consumer with Transient; what was in hand is
    forgotten then, since its tags are dead, and the broker gives it to somebody again.
    ``between_turns()`` is called when everything is settled and told, and returns the seconds after
    which it wants to be called again if nothing arrives. ``finish_within`` seconds after a stop
    nothing more is begun.
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
        self._unsettled: list[tuple[int, Verdict]] = []
        self._finishing = False
        channel.raw.add_on_cancel_callback(self._on_cancel)
        channel.call(channel.raw.basic_qos, prefetch_count=prefetch)
        # Only noted: pika takes any exception for a broken connection.
        channel.consume(queue, name, self._arrived.append)
        self._inquiry = Inquiry(channel, queue)
        self._apart = Apart(channel, queue)

    def serve(self, progress: Callable[[], None], until: float = math.inf) -> None:
        """Serve turn by turn, calling ``progress()`` after each; finish when asked to stop.

        ``until``: when to finish at the latest (monotonic).
        """
        idle = 0.0
        while not self._loop.stopping and time.monotonic() < until:
            # Reads what has arrived, serves the heartbeats.
            self._loop.turn(0 if self._arrived else idle)
            self._channel.check()
            if self._arrived and not self._loop.stopping:
                self._inquiry.heard()
                self._serve_batch()
                progress()
            else:
                self._inquire(progress)
            if not self._loop.stopping:
                idle = self._between_turns()
        self._finish()

    def _inquire(self, progress: Callable[[], None]) -> None:
        """With empty hands, see that the queue works. Raises Transient if it does not."""
        self._inquiry.look()
        if self._inquiry.found is None:
            return
        # Its leader, or an ack of ours, was lost: it takes this consumer for a busy one.
        self._arrived.append(self._inquiry.found)
        self._serve_batch()
        progress()
        raise Transient(
            f"{self._channel.broker.node} had a request ready and did not deliver it to a consumer "
            "with empty hands"
        )

    def _finish(self) -> None:
        """Serve what is in hand, and leave with nothing to give back.

        What is given back loses its place, and RabbitMQ 4.3 counts what a closing channel held
        against the delivery limit. So nothing is acked until the consumer is cancelled: with a full
        window, nothing more can arrive.
        """
        name = "worker.stopping" if self._loop.stopping else "worker.moving"
        event(log, logging.INFO, name, worker=self._name)
        self._finishing = True
        until = time.monotonic() + self._finish_within
        # The answer to the first comes behind all deliveries that were on their way.
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
        self._vitals.in_hand = len(batch)
        decoded = [_decode(delivery) for delivery in batch]
        begun = time.monotonic()
        outcomes = iter(self._store(batch, decoded))
        committed = time.monotonic()
        results: list[Outcome | InvalidRequest] = []
        for each in decoded:
            result = next(outcomes, None) if isinstance(each, Request) else each
            if result is None:
                break  # there was no time for it, nor for what comes after it
            results.append(result)
        batch, decoded = batch[: len(results)], decoded[: len(results)]
        verdicts = [decide(result) for result in results]
        self._unsettled += [
            (delivery.tag, self._spare_broker(delivery, verdict))
            for delivery, verdict in zip(batch, verdicts, strict=True)
        ]
        # An ack makes room for new deliveries. There shall be none any more at the end.
        if not (self._finishing or self._loop.stopping):
            self._settle()
        # The broker is at work on the next delivery: now there is time for accounts.
        self._vitals.count(results)
        if self._vitals.on_batch and batch:
            waited = committed - batch[0].arrived
            self._vitals.on_batch(Batch(len(batch), committed - begun, waited))
        if self._vitals.on_served:
            pairs = zip(decoded, results, strict=True)
            new = [each for each, result in pairs if result is Outcome.SERVED]
            self._vitals.on_served([each for each in new if isinstance(each, Request)])
        self._tell(batch, decoded, results, verdicts)

    def _spare_broker(self, delivery: Delivery, verdict: Verdict) -> Verdict:
        """Return the verdict; what the broker could not dead-letter is kept apart, and acked."""
        if isinstance(verdict, Reject) and is_hostile(delivery.properties):
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

    def _tell(
        self,
        batch: Sequence[Delivery],
        decoded: Sequence[Request | InvalidRequest],
        results: Sequence[Outcome | InvalidRequest],
        verdicts: Sequence[Verdict],
    ) -> None:
        all_served = results.count(Outcome.SERVED) == len(results)
        if all_served and not log.isEnabledFor(logging.DEBUG):
            return
        for delivery, what, result, verdict in zip(batch, decoded, results, verdicts, strict=True):
            about = {"message_id": _message_id(delivery, what), "worker": self._name}
            if isinstance(verdict, Reject):
                about |= {"reason": verdict.reason, "detail": verdict.detail}
                event(log, logging.WARNING, "request.dead_lettered", **about)
            elif result is Outcome.REPEATED:
                event(log, logging.INFO, "request.repeated", **about)
            elif result is Outcome.SERVED:
                event(log, logging.DEBUG, "request.served", **about)


def take_batch(arrived: deque[Delivery], name: str) -> list[Delivery]:
    """Take from the front what fits into one statement of the worker ``name``; at least one."""
    batch: list[Delivery] = []
    size = 0
    while arrived:
        size += len(arrived[0].body) + len(name) + _ROW_BYTES
        if batch and size > MAX_BATCH_BYTES:
            break
        batch.append(arrived.popleft())
    return batch


def _decode(delivery: Delivery) -> Request | InvalidRequest:
    if delivery.problem:
        return delivery.problem
    try:
        return Request.receive(delivery.body, delivery.properties)
    except InvalidRequest as error:
        return error


def _message_id(delivery: Delivery, decoded: Request | InvalidRequest) -> str | None:
    if isinstance(decoded, Request):
        return decoded.message_id
    try:
        message_id: str | None = decode_properties(delivery.properties).message_id
    except InvalidRequest:
        return None
    return message_id
