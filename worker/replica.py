"""A replica's life: connect to the database, then consume; start over when either is lost."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from turnwise.broker import CLOSE_TIMEOUT, Broker
from turnwise.database import TIMEOUT, translating
from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest, Permanent, Refused, Stopped, Transient
from turnwise.log import Outage, event
from turnwise.loop import Loop
from turnwise.message import Request
from turnwise.node import Node
from turnwise.retry import persist
from turnwise.topology import Topology
from worker import replication
from worker.consumer import FINISH_TIMEOUT, Consumer
from worker.handler_watch import STOP_TIMEOUT
from worker.handling import Handling, works_of
from worker.schema import migrate
from worker.store import Outcome, Store
from worker.vitals import Vitals

log = logging.getLogger(__name__)

T = TypeVar("T")

SHUTDOWN_BUDGET = TIMEOUT + FINISH_TIMEOUT + TIMEOUT + 3 * CLOSE_TIMEOUT + 1
"""The worst case in seconds from SIGTERM to the end. A slow database stores the current batch just
within its timeout, and so does another batch that was started at the last moment. Then a hung
broker neither cancels the consumer, nor closes the channel, nor the connection. One second is for
the rest. Measured in tests/integration/test_shutdown.py."""

HANDLER_ENDING = STOP_TIMEOUT + TIMEOUT + 3 * CLOSE_TIMEOUT + 1
"""The worst case in seconds from the time at which a stop ends a handler. The handler returns or is
given up, the database does not take the record of that, and the broker does none of the three. One
second is for the rest."""


AWAY = 300.0, 600.0
"""Seconds, from and to, that a worker stays on a node that is not its own before it tries to
return: after a rolling restart all workers might be on one node. The time is random, so that not
all of them move at once."""


def _homeward() -> float:
    """Return the time to leave a node that is not the worker's own (monotonic)."""
    return time.monotonic() + random.uniform(*AWAY)


class Replica:
    """Serves as ``name``: its consumer tag, its ``served_by``, and its name in the logs."""

    def __init__(
        self,
        loop: Loop,
        nodes: Sequence[Node],
        topology: Topology,
        store: Store,
        name: str,
        prefetch: int,
        handling: Handling | None = None,
    ) -> None:
        self.vitals = handling.vitals if handling else Vitals()
        self._loop = loop
        self._nodes = nodes
        self._topology = topology
        self._store = store
        self._name = name
        self._prefetch = prefetch
        self._handling = handling
        self._broker_outage = Outage(log, "broker")
        self._database_outage = Outage(log, "database")
        self._doubts: list[str] = []

    def run(self) -> None:
        """Serve until the loop is asked to stop. Raises Permanent when an operator must act."""
        event(log, logging.INFO, "worker.started", worker=self._name, prefetch=self._prefetch)
        try:
            # A session ends by itself when it is time to return to the worker's own node.
            while not self._loop.stopping:
                persist(self._session, sleep=self._loop.sleep, on_failure=self._lost_broker)
        except Stopped:
            pass
        finally:
            self._store.close()
            if self._handling:
                self._handling.close()
        event(log, logging.INFO, "worker.stopped", worker=self._name, served=self.vitals.served)

    def _session(self, progress: Callable[[], None]) -> None:
        # The database comes first: a request delivered while it is away can only be held, and each
        # connection lost meanwhile counts against the request's delivery limit.
        self._with_database(self._prepare, self._loop.sleep)
        with Broker.connect(self._loop, self._nodes, f"worker {self._name}") as broker:
            if self._topology.declare(broker):
                self._report_made(broker)
            if self._loop.stopping:
                return
            channel = broker.channel()

            def hold(seconds: float) -> None:
                # Deliveries that cannot be stored now are held as long as their channel lives.
                broker.sleep(seconds)
                channel.check()

            def attempt(work: Callable[[], T]) -> T:
                return self._with_database(work, hold)

            def store(
                batch: Sequence[Delivery],
                decoded: Sequence[Request | InvalidRequest],
                meanwhile: Callable[[], object] | None,
            ) -> list[Outcome]:
                if self._handling is None:
                    requests = [each for each in decoded if isinstance(each, Request)]
                    return attempt(lambda: self._store.write(requests, meanwhile))
                works = works_of(batch, decoded)
                outcomes = self._handling.serve(works, attempt)
                self._store.note_served([work.request for work in works])
                return outcomes

            def between_turns() -> float:
                self._keep_account()
                return self._handling.between_turns(attempt) if self._handling else 1.0

            consumer = Consumer(
                channel,
                self._topology.queue,
                self._name,
                self._prefetch,
                store,
                between_turns,
                self.vitals,
                self._handling.stop_within if self._handling else FINISH_TIMEOUT,
            )
            self._broker_outage.over()
            event(log, logging.INFO, "worker.consuming", worker=self._name)
            self.vitals.consuming = True
            try:
                consumer.serve(progress, math.inf if broker.home else _homeward())
            finally:
                self.vitals.consuming = False

    def _report_made(self, broker: Broker) -> None:
        """Log that the queue was created; as a warning, if there must have been one before."""
        queue = self._topology.queue
        if self._with_database(self._store.has_rows, self._loop.sleep):
            event(log, logging.WARNING, "queue.made_again", queue=queue, error=(
                f"{broker.node} no longer had the queue {queue!r}: it was deleted, or its data are "
                "lost. It was recreated, empty. Requests that were confirmed in it and not served "
                "are gone: 'worker audit' shows them as missing once later ones are served, and "
                "their clients may send them again"
            ))  # fmt: skip
        else:
            event(log, logging.INFO, "queue.made", queue=queue)

    def _keep_account(self) -> None:
        try:
            self._store.keep_account()
        except (Transient, Permanent) as error:
            # It only makes the audit fast; serving does not depend on it.
            event(log, logging.WARNING, "audit.not_kept", error=error)

    def _with_database(self, work: Callable[[], T], sleep: Callable[[float], None]) -> T:
        def attempt(_progress: object) -> T:
            result = work()
            self._database_outage.over()
            self.vitals.storing = True
            return result

        return persist(attempt, sleep=sleep, on_failure=self._lost_database)

    def _lost_broker(self, error: Transient, wait: float) -> None:
        self.vitals.lost["broker"] += 1
        self._broker_outage.failed(error, wait)

    def _lost_database(self, error: Transient, wait: float) -> None:
        self.vitals.storing = False
        self.vitals.lost["database"] += 1
        self._database_outage.failed(error, wait)

    def _prepare(self) -> None:
        try:
            connection = self._store.open()
            if self._loop.stopping:
                raise Stopped
            connection.allow(TIMEOUT)
            try:
                migrate(connection, self._store.database)
            except Refused as error:
                raise Transient(
                    f"{error}; waiting for 'worker migrate' with an account that may do that"
                ) from None
            with translating(self._store.database):
                doubts = list(replication.doubts(replication.read(connection)))
        except Transient:
            self._store.close()
            raise
        for doubt in doubts:
            if doubt not in self._doubts:
                text = f"what is acked may be lost if {self._store.database} fails over: {doubt}"
                event(log, logging.WARNING, "database.may_lose", reason=text)
        self._doubts = doubts
