"""Three nodes, one of them partitioned together with the queue's leader and all clients."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.harness.process import free_port
from lab.harness.servers import DEFAULT_FOLDER
from tests.integration.cluster import NAMES, Cluster
from tests.pipeline import Pipeline

pytestmark = pytest.mark.timeout(600)

MOVED_WITHIN = 20.0
"""Seconds. It takes 8 to notice and some for a new leader; the rest is for a busy machine."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster", DEFAULT_FOLDER / "packages")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def test_clients_of_a_partitioned_node_fail_over(pipeline: Pipeline, cluster: Cluster) -> None:
    # The node that declares the queue leads it; all clients start there.
    here = "one"
    others = {name: free_port() for name in NAMES if name != here}
    url = ",".join(
        [cluster.url(here), *(cluster.nodes[name].url(port=port) for name, port in others.items())]
    )
    pipeline.worker("maker", AMQP_URL=cluster.url(here)).stop(20)
    assert cluster.leader() == here
    worker = pipeline.worker("worker-1", AMQP_URL=url)
    sender = pipeline.start(
        "sender", "producer", "send", "hello", "--quantum", "50ms", AMQP_URL=url
    )
    pipeline.wait_served(20)
    for name, port in others.items():
        pipeline.proxy(cluster.nodes[name].port, port)
    cluster.cut_off(here)
    served, at, gaps = pipeline.served(), time.monotonic(), [0.0]
    until = time.monotonic() + 3 * MOVED_WITHIN
    while time.monotonic() < until and pipeline.served() < served + 200:
        now = pipeline.served()
        if now > served:
            gaps.append(time.monotonic() - at)
            served, at = now, time.monotonic()
        time.sleep(0.05)  # a polling rate
    print(f"the longest time without a row: {max(gaps):.1f} s")
    assert max(gaps) < MOVED_WITHIN
    away = [e["error"] for e in pipeline.events(worker) if e["event"] == "broker.away"]
    assert away, "the worker did not move"
    # The partitioned node never comes back; every accepted request is served nevertheless.
    cluster.nodes[here].kill()
    sender.kill()
    pipeline.run("producer", "flush", AMQP_URL=url)
    accepted = int(pipeline.status()["accepted"])
    pipeline.wait_served(accepted, timeout=120)
    pipeline.assert_exactly_once(pipeline.client(), accepted)
