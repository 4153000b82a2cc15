"""``producer relay --http``: /readyz and /metrics, and the thread that counts what waits."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from producer.relay.vitals import Vitals
from turnwise import outbox_status
from turnwise.database import Connection, Database, translating
from turnwise.errors import ServerError
from turnwise.log import event
from turnwise.outbox_status import OutboxStatus
from turnwise.status_server import Page

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two counts of the waiting rows."""

SHARE = 20
"""Each count is followed by a pause of this many times its duration."""


class Figures:
    """Counts the waiting rows, in a thread and on a connection of its own."""

    def __init__(self, database: Database, name: str) -> None:
        self.status: OutboxStatus | None = None
        """As of the last count; None while the database is away."""
        self._database = database
        self._name = name
        self._connection: Connection | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count, name="figures", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Do not join the thread: it may be waiting for a hung database.
        self._stop.set()

    def _count(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                if self._connection is None:
                    self._connection = self._database.connect(f"producer relay {self._name}")
                with translating(self._database):
                    self.status = outbox_status.read(self._connection)
            except ServerError as error:
                event(log, logging.DEBUG, "figures.missing", error=error)
                self.status = None
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
            if self._stop.wait(max(INTERVAL, SHARE * (time.monotonic() - begun))):
                return


class _Relay(Collector):
    def __init__(self, vitals: Vitals, figures: Figures) -> None:
        self._vitals = vitals
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        vitals = self._vitals
        yield GaugeMetricFamily(
            "turnwise_relay_at_work",
            "1 if this relay works, 0 if it stands by.",
            int(vitals.at_work),
        )
        yield CounterMetricFamily(
            "turnwise_relay_shifts", "How often this relay began to work.", vitals.shifts
        )
        yield CounterMetricFamily(
            "turnwise_relay_confirmed",
            "Requests that this relay published and RabbitMQ confirmed.",
            vitals.confirmed,
        )
        yield GaugeMetricFamily(
            "turnwise_relay_invalid_rows",
            "Rows of the outbox that are not valid requests; correct or delete them.",
            vitals.invalid,
        )
        stuck = GaugeMetricFamily(
            "turnwise_relay_queue_stuck", "1: the queue takes nothing.", labels=["queue"]
        )
        for queue in vitals.stuck:
            stuck.add_metric([queue], 1)
        yield stuck
        lost = CounterMetricFamily(
            "turnwise_connection_failures", "Connections lost, or not made.", labels=["server"]
        )
        for server, count in vitals.lost.items():
            lost.add_metric([server], count)
        yield lost
        if status := self._figures.status:
            yield from _collect(status)


def _collect(status: OutboxStatus) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "turnwise_outbox_waiting",
        "Committed rows of the outbox that RabbitMQ has not confirmed.",
        labels=["queue"],
    )
    oldest = GaugeMetricFamily(
        "turnwise_outbox_oldest_seconds",
        "How long the oldest of those has waited.",
        labels=["queue"],
    )
    numbered = CounterMetricFamily(
        "turnwise_outbox_numbered", "Requests that were given a number.", labels=["queue", "client"]
    )
    for queue in status.queues:
        waiting.add_metric([queue.queue], queue.waiting)
        oldest.add_metric([queue.queue], queue.oldest_seconds)
        if queue.client:
            numbered.add_metric([queue.queue, queue.client], queue.numbered)
    yield waiting
    yield oldest
    yield numbered


def pages(vitals: Vitals, figures: Figures) -> dict[str, Page]:
    """Return the pages."""
    registry = CollectorRegistry()
    registry.register(_Relay(vitals, figures))

    def readyz() -> tuple[HTTPStatus, str, bytes]:
        status = HTTPStatus.OK if vitals.connected else HTTPStatus.SERVICE_UNAVAILABLE
        fields = {"ready": vitals.connected, "at_work": vitals.at_work}
        return status, "application/json", json.dumps(fields).encode()

    def metrics() -> tuple[HTTPStatus, str, bytes]:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)

    return {"/readyz": readyz, "/metrics": metrics}
