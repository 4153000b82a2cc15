"""Workers spread over the nodes, and return to their home node."""

from __future__ import annotations

import sys

from lab.harness.process import Process, free_port
from lab.harness.proxy import Proxy
from tests.pipeline import Pipeline

IMPATIENT = """
import turnwise.node, worker.cli, worker.replica
worker.replica.AWAY = (1.0, 2.0)
turnwise.node.TROUBLE_LASTS = 1.0
worker.cli.main(prog_name="worker")
"""


def test_workers_are_spread_over_the_nodes(pipeline: Pipeline) -> None:
    links = [pipeline.broker_proxy() for _ in range(3)]
    url = ",".join(through for _, through in links)
    for number in range(1, 4):
        pipeline.worker(f"worker-{number}", AMQP_URL=url)
    assert [proxy.connections for proxy, _ in links] == [1, 1, 1]


def test_a_worker_returns_to_its_home_node_between_two_requests(pipeline: Pipeline) -> None:
    """Its home node is away when it connects, and a stream of requests never lets it be idle."""
    ports = [free_port() for _ in range(3)]
    url = ",".join(pipeline.servers.rabbitmq.url(pipeline.name, port) for port in ports)
    first = pipeline.worker("maker")  # declares the queue
    pipeline.send("x")
    first.kill()
    links = [Proxy(pipeline.servers.rabbitmq.port, port) for port in ports]
    worker = Process(
        "worker-1",
        pipeline.folder,
        [sys.executable, "-c", IMPATIENT, "run", "--name", "worker-1", "--prefetch", "20"],
        pipeline.environment(AMQP_URL=url),
    )
    pipeline.adopt(worker).start()
    try:
        pipeline.wait_event(worker, "worker.consuming")
        [home] = [link for link in links if link.connections]
        sender = pipeline.start("sender", "producer", "send", "hello", "--quantum", "20ms")
        pipeline.wait_served(20)
        home.close()  # the node goes down ...
        pipeline.wait_event(worker, "worker.consuming", times=2)
        assert "worker.moving" not in [e["event"] for e in pipeline.events(worker)]
        back = Proxy(pipeline.servers.rabbitmq.port, home.port)  # ... and comes back
        links.append(back)
        pipeline.wait(lambda: back.connections, "the worker goes home", timeout=60)
        moved = [e["event"] for e in pipeline.events(worker)]
        assert "worker.moving" in moved
        served = pipeline.served()
        pipeline.wait_served(served + 50)
        sender.stop(20)
        accepted = int(pipeline.status()["accepted"])
        pipeline.wait_served(accepted)
        pipeline.assert_exactly_once(pipeline.client(), accepted)
        # Only the node's shutdown returned requests to the queue: a planned move returns none.
        assert sum(row.deliveries - 1 for row in pipeline.rows()) <= 20
    finally:
        for link in links:
            link.close()
