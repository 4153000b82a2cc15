"""``worker run --http``: /readyz and /metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from turnwise.status_server import Page
from worker.vitals import Batch, Vitals

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_HANDLER_SECONDS = (*_SECONDS, 60, 120, 300, 600, 1500)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class _Vitals(Collector):
    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        vitals = self._vitals
        yield CounterMetricFamily(
            "turnwise_requests_served", "Requests committed as new rows.", vitals.served
        )
        yield CounterMetricFamily(
            "turnwise_requests_repeated", "Repeats without effect.", vitals.repeated
        )
        dead = CounterMetricFamily(
            "turnwise_requests_dead_lettered", "Messages rejected for good.", labels=["reason"]
        )
        for reason, count in vitals.dead_lettered.items():
            dead.add_metric([reason], count)
        yield dead
        lost = CounterMetricFamily(
            "turnwise_connection_failures",
            "Connections lost, or not made.",
            labels=["server"],
        )
        for server, count in vitals.lost.items():
            lost.add_metric([server], count)
        yield lost
        attempts = CounterMetricFamily(
            "turnwise_handler_failures",
            "Attempts of the handler that did not serve a request.",
            labels=["reason"],
        )
        for reason, count in vitals.attempts.items():
            attempts.add_metric([reason], count)
        yield attempts
        failures = GaugeMetricFamily(
            "turnwise_failures",
            "Requests that the handler did not serve, in the whole database.",
            labels=["state"],
        )
        failures.add_metric(["waiting"], vitals.failures_waiting)
        failures.add_metric(["given_up"], vitals.failures_given_up)
        yield failures
        yield GaugeMetricFamily(
            "turnwise_requests_in_hand", "Requests delivered and not settled.", vitals.in_hand
        )
        yield GaugeMetricFamily(
            "turnwise_ready", "1 if consuming and able to store.", int(vitals.ready)
        )


def pages(vitals: Vitals) -> dict[str, Page]:
    """Return the pages, and register observers of each batch and handler call with the vitals."""
    registry = CollectorRegistry()
    registry.register(_Vitals(vitals))
    commit = Histogram(
        "turnwise_commit_seconds",
        "One commit, including its retries.",
        buckets=_SECONDS,
        registry=registry,
    )
    delivery = Histogram(
        "turnwise_delivery_to_ack_seconds",
        "From the arrival of a batch's first request to its ack.",
        buckets=_SECONDS,
        registry=registry,
    )
    size = Histogram(
        "turnwise_batch_size", "Requests in one commit.", buckets=_SIZES, registry=registry
    )

    handler = Histogram(
        "turnwise_handler_seconds",
        "One call of the handler; the count is that of the attempts.",
        buckets=_HANDLER_SECONDS,
        registry=registry,
    )

    def observe(batch: Batch) -> None:
        commit.observe(batch.commit_seconds)
        delivery.observe(batch.delivery_seconds)
        size.observe(batch.size)

    vitals.on_batch = observe
    vitals.on_handled = handler.observe

    def readyz() -> tuple[HTTPStatus, str, bytes]:
        status = HTTPStatus.OK if vitals.ready else HTTPStatus.SERVICE_UNAVAILABLE
        fields = {"ready": vitals.ready, "consuming": vitals.consuming, "storing": vitals.storing}
        return status, "application/json", json.dumps(fields).encode()

    def metrics() -> tuple[HTTPStatus, str, bytes]:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)

    return {"/readyz": readyz, "/metrics": metrics}
