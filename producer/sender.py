"""The producer at work: a source accepts into the outbox while the outbox is published."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from producer.outbox import Outbox
from producer.publisher import Publisher
from producer.report import Report
from producer.source import Source
from turnwise.broker import Broker
from turnwise.errors import Stopped
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.retry import persist
from turnwise.topology import Topology

FLUSH_TIMEOUT = 5.0
"""Seconds that a producer that was asked to stop goes on publishing what waits."""


class Sender:
    """Sends until the source is at its end and nothing waits, or until asked to stop."""

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
        self._stop_by: float | None = None

    def run(self) -> None:
        """Do it. What could not be published stays in the outbox."""
        if self._finished():
            return
        try:
            persist(self._session, sleep=self._loop.sleep, on_failure=self._report.failed)
        except Stopped:
            self._finished()

    def _session(self, progress: Callable[[], None]) -> None:
        with Broker.connect(self._loop, self._nodes, f"producer {self._outbox.client}") as broker:
            self._topology.declare(broker)
            self._report.connected(broker)
            publisher = Publisher(broker, self._topology, self._outbox)
            publisher.run(self._finished, progress)
            publisher.drain()

    def _finished(self) -> bool:
        if self._loop.stopping:
            # A last effort: numbers already given out are published, no new ones are.
            if self._source:
                self._source.stop()
            self._stop_by = self._stop_by or time.monotonic() + FLUSH_TIMEOUT
            if time.monotonic() > self._stop_by:
                return True
        elif self._source and not self._source.finished:
            return False
        return not self._outbox.waiting
