"""The running producer: a source fills the outbox while the outbox is published."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from producer.outbox import Outbox
from producer.publisher import Publisher
from producer.report import Report
from producer.source import Source
from turnwise.acquaintance import Acquaintance
from turnwise.broker import Broker
from turnwise.errors import Stopped
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.retry import persist
from turnwise.topology import Topology


class Sender:
    """Sends until the source has ended and nothing is waiting, or until asked to stop."""

    def __init__(
        self,
        loop: Loop,
        outbox: Outbox,
        nodes: Sequence[Node],
        topology: Topology,
        report: Report,
        source: Source | None = None,
    ) -> None:
        self._loop = loop
        self._outbox = outbox
        self._nodes = nodes
        self._topology = topology
        self._report = report
        self._source = source
        queue = topology.queue
        self._acquaintance = Acquaintance(
            topology,
            lambda: outbox.cluster(queue),
            lambda cluster: outbox.keep_cluster(queue, cluster),
        )

    def run(self) -> None:
        """Run. Requests that could not be published stay in the outbox."""
        self._loop.turn(0)  # the source may be empty
        if self._finished():
            return
        with contextlib.suppress(Stopped):
            persist(self._session, sleep=self._sleep, on_failure=self._report.failed)

    def _session(self, progress: Callable[[], None]) -> None:
        name = f"producer {self._outbox.client}"
        with Broker.connect(self._loop, self._nodes, name) as broker:
            self._acquaintance.meet(broker)
            self._report.connected(broker)
            publisher = Publisher(broker, self._topology, self._outbox)

            def confirmed() -> None:
                self._acquaintance.confirmed(broker)
                progress()

            publisher.run(self._finished, confirmed)
            publisher.drain()

    def _sleep(self, seconds: float) -> None:
        """Wait for RabbitMQ, unless there is nothing to send or the loop was asked to stop."""

        def ends() -> bool:
            return self._loop.asked or self._finished()

        if self._loop.wait(ends, seconds) or ends():
            raise Stopped

    def _finished(self) -> bool:
        if self._loop.stopping:
            return True
        if self._source and not self._source.finished and not self._loop.asked:
            return False
        # Once asked to stop, the source is ignored, and only what is waiting is published.
        return not self._outbox.waiting
