"""RabbitMQ -> database: the worker's turn. Take what has arrived, store it, settle it; next."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pika import BasicProperties, spec

from turnwise.broker import CLOSE_TIMEOUT, Broker, Channel, Node
from turnwise.database import TIMEOUT
from turnwise.errors import InvalidRequest, Stopped, Transient
from turnwise.log import Outage, event
from turnwise.loop import Loop
from turnwise.message import Request
from turnwise.retry import persist
from turnwise.topology import Topology
from worker.schema import migrate
from worker.settle import Reject, Verdict, decide, settle
from worker.store import Outcome, Store
from worker.vitals import Vitals

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BATCH_BYTES = 400 * 1024
"""Bodies in one statement: escaped it may double, and stays below the 1 MB at which PyMySQL
splits statements and far below the servers' ``max_allowed_packet``."""

SHUTDOWN_BUDGET = 2 * TIMEOUT + 2 * CLOSE_TIMEOUT
"""Seconds from SIGTERM to the end at worst: one write to a hung database (sent, then answered, each
within its timeout), then a channel and a connection that a hung broker does not close."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came. ``tag`` is valid on its channel only."""

    tag: int
    properties: BasicProperties
    body: bytes


class Worker:
    """A replica. ``name`` is its consumer tag, its ``served_by``, and its name in the logs.

    ``prefetch`` 1 is the strict turn: one request in hand. With more, the same code takes what has
    arrived, up to that many, in one statement, one commit and one ack. It never waits for more.
    """

    def __init__(
        self,
        loop: Loop,
        nodes: Sequence[Node],
        topology: Topology,
        store: Store,
        name: str,
        prefetch: int,
    ) -> None:
        self.vitals = Vitals()
        self._loop = loop
        self._nodes = nodes
        self._topology = topology
        self._store = store
        self._name = name
        self._prefetch = prefetch
        self._arrived: deque[Delivery] = deque()
        self._broker_outage = Outage(log, "broker")
        self._database_outage = Outage(log, "database")

    def run(self) -> None:
        """Serve until the loop is asked to stop. Raises Permanent when somebody has to act."""
        event(log, logging.INFO, "worker.started", worker=self._name, prefetch=self._prefetch)
        try:
            persist(self._session, sleep=self._loop.sleep, on_failure=self._lost_broker)
        except Stopped:
            pass
        finally:
            self._store.close()
        event(log, logging.INFO, "worker.stopped", worker=self._name, served=self.vitals.served)

    def _session(self, progress: Callable[[], None]) -> None:
        # Able to store first, and only then a consumer: a request that is handed out while the
        # database is away can only be held, and each lost connection counts against its limit.
        self._with_database(self._prepare, self._loop.sleep)
        with Broker.connect(self._loop, self._nodes, f"worker {self._name}") as broker:
            self._topology.declare(broker)
            # Delivery tags died with the channel they came on, and so did what came with them.
            self._arrived.clear()
            channel = broker.channel()
            channel.raw.add_on_cancel_callback(
                lambda _: channel.fail(Transient(f"{broker.node} cancelled the consumer"))
            )
            channel.call(channel.raw.basic_qos, prefetch_count=self._prefetch)
            channel.call(
                channel.raw.basic_consume,
                queue=self._topology.queue,
                on_message_callback=self._on_message,
                consumer_tag=self._name,
            )
            self._broker_outage.over()
            event(
                log, logging.INFO, "worker.consuming", worker=self._name, queue=self._topology.queue
            )
            self.vitals.consuming = True
            try:
                self._serve(channel, progress)
            finally:
                self.vitals.consuming = False
            # Gives back what arrived and was not begun, in order and at the queue's head.
            channel.close()

    def _serve(self, channel: Channel, progress: Callable[[], None]) -> None:
        while not self._loop.stopping:
            self.vitals.turned()
            # Reads what has arrived, sends the acks of the last batch, serves the heartbeats.
            self._loop.turn(0 if self._arrived else 1)
            channel.check()
            if self._arrived and not self._loop.stopping:
                self._serve_batch(channel, self._take())
                progress()

    def _take(self) -> list[Delivery]:
        batch = [self._arrived.popleft()]
        size = len(batch[0].body)
        while self._arrived and size + len(self._arrived[0].body) <= MAX_BATCH_BYTES:
            batch.append(self._arrived.popleft())
            size += len(batch[-1].body)
        return batch

    def _serve_batch(self, channel: Channel, batch: Sequence[Delivery]) -> None:
        decoded = [_decode(delivery) for delivery in batch]
        requests = [each for each in decoded if isinstance(each, Request)]

        def hold(seconds: float) -> None:
            """Keep the batch in hand while the database is away, as long as its channel lives."""
            self.vitals.turned()
            channel.broker.sleep(seconds)
            channel.check()

        self.vitals.in_hand = len(batch)
        outcomes = iter(self._with_database(lambda: self._store.write(requests), hold))
        results = [next(outcomes) if isinstance(each, Request) else each for each in decoded]
        verdicts = [decide(result) for result in results]
        settle(channel.raw, [(d.tag, v) for d, v in zip(batch, verdicts, strict=True)])
        self.vitals.in_hand = 0
        self._tell(batch, results, verdicts)

    def _with_database(self, work: Callable[[], T], sleep: Callable[[float], None]) -> T:
        def attempt(_progress: object) -> T:
            result = work()
            self._database_outage.over()
            self.vitals.storing = True
            return result

        return persist(attempt, sleep=sleep, on_failure=self._lost_database)

    def _prepare(self) -> None:
        try:
            migrate(self._store.open(), self._store.database)
        except Transient:
            self._store.close()
            raise

    def _lost_broker(self, error: Transient, wait: float) -> None:
        self._broker_outage.failed(error, wait)

    def _lost_database(self, error: Transient, wait: float) -> None:
        self.vitals.storing = False
        self._database_outage.failed(error, wait)

    def _on_message(
        self,
        _channel: object,
        method: spec.Basic.Deliver,
        properties: BasicProperties,
        body: bytes,
    ) -> None:
        # Only this here: pika takes any exception for a broken connection.
        self._arrived.append(Delivery(method.delivery_tag, properties, body))

    def _tell(
        self,
        batch: Sequence[Delivery],
        results: Sequence[Outcome | InvalidRequest],
        verdicts: Sequence[Verdict],
    ) -> None:
        self.vitals.count(results)
        if all(result is Outcome.SERVED for result in results) and not log.isEnabledFor(
            logging.DEBUG
        ):
            return
        for delivery, result, verdict in zip(batch, results, verdicts, strict=True):
            request = {"message_id": delivery.properties.message_id, "worker": self._name}
            if isinstance(verdict, Reject):
                event(
                    log,
                    logging.WARNING,
                    "request.dead_lettered",
                    reason=verdict.reason,
                    detail=verdict.detail,
                    **request,
                )
            elif result is Outcome.REPEATED:
                event(log, logging.INFO, "request.repeated", **request)
            else:
                event(log, logging.DEBUG, "request.served", **request)


def _decode(delivery: Delivery) -> Request | InvalidRequest:
    try:
        return Request.decode(delivery.body, delivery.properties)
    except InvalidRequest as error:
        return error
