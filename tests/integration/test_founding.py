"""A queue is declared only if no other node has it, or could have it.

To its clients a virtual host looks like a node, so one server stands for several here.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from lab.harness.process import free_port
from tests.integration.test_acquaintance import make_queue
from tests.pipeline import Pipeline


@pytest.fixture
def blank(pipeline: Pipeline) -> Iterator[str]:
    """Yield a node without any queue, like one that lost its disk."""
    name = f"{pipeline.name}-blank"
    pipeline.servers.rabbitmq.make_vhost(name)
    yield name
    pipeline.servers.rabbitmq.remove_vhost(name)


def queues(pipeline: Pipeline, vhost: str) -> list[str]:
    return [queue["name"] for queue in pipeline.api("GET", f"queues/{quote(vhost)}")]


def test_all_clients_of_a_blank_node_move_to_the_node_with_the_queue(
    pipeline: Pipeline, blank: str
) -> None:
    make_queue(pipeline)
    both = f"{pipeline.servers.rabbitmq.url(blank)},{pipeline.amqp_url}"
    # Each client starts at a random one of them.
    for number in range(4):
        outbox = str(pipeline.folder / f"outbox-{number}.db")
        pipeline.run("producer", "send", "x", "--count", "1",
                     AMQP_URL=both, PRODUCER_OUTBOX=outbox)  # fmt: skip
        pipeline.worker(f"worker-{number}", AMQP_URL=both)
    pipeline.wait_served(4)
    assert queues(pipeline, blank) == []


def test_no_queue_is_declared_while_another_node_could_have_it(
    pipeline: Pipeline, blank: str
) -> None:
    make_queue(pipeline)
    away = free_port()
    rabbitmq = pipeline.servers.rabbitmq
    both = f"{rabbitmq.url(blank)},{rabbitmq.url(pipeline.name, away)}"
    worker = pipeline.start("worker", "worker", "run", AMQP_URL=both)
    sender = pipeline.start("sender", "producer", "send", "x", "--count", "1", AMQP_URL=both)

    def said() -> bool:
        errors = [str(e.get("error")) for e in pipeline.events(worker)]
        return any("cannot be asked whether it has" in error for error in errors)

    pipeline.wait(said, "the worker says what it waits for")
    assert queues(pipeline, blank) == []
    # The other node is back.
    pipeline.proxy(pipeline.servers.rabbitmq.port, away)
    assert sender.wait(30) == 0
    pipeline.wait_served(1)
    assert queues(pipeline, blank) == []


def test_a_queue_that_no_node_has_is_declared(pipeline: Pipeline, blank: str) -> None:
    """One of the nodes lacks even the virtual host."""
    nowhere = pipeline.servers.rabbitmq.url("nowhere")
    pipeline.worker("worker-1", AMQP_URL=f"{pipeline.servers.rabbitmq.url(blank)},{nowhere}")
    assert queues(pipeline, blank) == ["requests", "requests.dead"]
