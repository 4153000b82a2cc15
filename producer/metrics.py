"""``producer send --http``: /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from producer.outbox import Outbox
from turnwise.status_server import Page


class _Outbox(Collector):
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def collect(self) -> Iterator[Metric]:
        status = self._outbox.status
        accepted = CounterMetricFamily(
            "turnwise_requests_accepted", "Requests in the outbox, ever.", labels=["client"]
        )
        accepted.add_metric([status.client], status.accepted)
        yield accepted
        confirmed = CounterMetricFamily(
            "turnwise_requests_confirmed",
            "Requests RabbitMQ has confirmed.",
            labels=["client"],
        )
        confirmed.add_metric([status.client], status.confirmed)
        yield confirmed
        waiting = GaugeMetricFamily(
            "turnwise_requests_waiting", "Requests that wait in the outbox.", labels=["client"]
        )
        waiting.add_metric([status.client], status.waiting)
        yield waiting


def pages(outbox: Outbox) -> dict[str, Page]:
    """Return the pages."""
    registry = CollectorRegistry()
    registry.register(_Outbox(outbox))

    def metrics() -> tuple[HTTPStatus, str, bytes]:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)

    return {"/metrics": metrics}
