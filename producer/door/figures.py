"""The door's metrics: whether it can publish, and its counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from producer.door.pending import Pending

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Figures(Collector):
    """The door's metrics. Each of its two threads writes its own fields."""

    def __init__(self, pending: Pending) -> None:
        self.connections: Callable[[], int] = int
        self._pending = pending
        self.lost = 0
        """How often the connection to RabbitMQ was lost, or could not be made."""
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._seconds = Histogram(
            "turnwise_door_confirm_seconds",
            "From the head of a PUT to the answer 201.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._answers = Counter(
            "turnwise_door_answers",
            "Answers under /requests/.",
            labelnames=["status"],
            registry=self._registry,
        )

    def answered(self, status: HTTPStatus, seconds: float) -> None:
        """Count a response."""
        self._answers.labels(status.value).inc()
        if status == HTTPStatus.CREATED:
            self._seconds.observe(seconds)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that are read on each scrape."""
        yield GaugeMetricFamily(
            "turnwise_door_under_way",
            "Requests that wait for their confirm.",
            self._pending.under_way,
        )
        yield GaugeMetricFamily(
            "turnwise_door_connections", "Open HTTP connections.", self.connections()
        )
        lost = CounterMetricFamily(
            "turnwise_connection_failures", "Connections lost, or not made.", labels=["server"]
        )
        lost.add_metric(["broker"], self.lost)
        yield lost
        yield GaugeMetricFamily(
            "turnwise_door_ready",
            "1 if requests can be published.",
            int(self._pending.refusal is None),
        )
