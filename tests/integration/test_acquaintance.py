"""Which queues a producer trusts: none that was just declared, none of another cluster."""

from __future__ import annotations

import signal
from urllib.parse import quote

from tests.pipeline import Pipeline
from turnwise.errors import ExitCode
from turnwise.topology import Topology


def make_queue(pipeline: Pipeline) -> None:
    """Declare the queue as a worker does."""
    topology = Topology()
    with pipeline.channel() as channel:
        for name, arguments in (
            (topology.dead, topology.dead_arguments),
            (topology.queue, topology.queue_arguments),
        ):
            channel.exchange_declare(name, "direct", durable=True)
            channel.queue_declare(name, durable=True, arguments=arguments)
            channel.queue_bind(name, name, name)


def test_requests_confirmed_in_a_queue_just_declared_by_another_are_kept(
    pipeline: Pipeline,
) -> None:
    """The broker is killed right after the first confirm."""
    proxy, through = pipeline.broker_proxy()
    proxy.hold(proxy.down)
    sender = pipeline.start("sender", "producer", "send", "hello", "--count", "1",
                            AMQP_URL=through)  # fmt: skip
    pipeline.wait(lambda: proxy.connections, "it connects")
    make_queue(pipeline)
    proxy.release(proxy.down)
    assert sender.wait(30) == 0
    pipeline.servers.rabbitmq.kill()
    pipeline.servers.rabbitmq.start()
    pipeline.worker("worker-1")
    pipeline.wait_served(1, timeout=15)
    pipeline.assert_exactly_once(pipeline.client(), 1)


def test_ctrl_c_in_the_second_after_the_queue_was_declared_loses_nothing(
    pipeline: Pipeline,
) -> None:
    sender = pipeline.start("sender", "producer", "send", "hello", "--count", "1")
    pipeline.wait(
        lambda: "requests" in [q["name"] for q in pipeline.api("GET", f"queues/{pipeline.name}")],
        "the queue",
    )
    sender.signal(signal.SIGINT)
    assert sender.wait(10) in {ExitCode.OK, ExitCode.WAITING}
    pipeline.run("producer", "flush")
    pipeline.worker("worker-1")
    pipeline.wait_served(1)
    pipeline.assert_exactly_once(pipeline.client(), 1)


def test_a_queue_that_held_confirmed_requests_is_never_silently_recreated(
    pipeline: Pipeline,
) -> None:
    pipeline.send("one")
    pipeline.api("DELETE", f"queues/{pipeline.name}/requests")
    sender = pipeline.start("sender", "producer", "send", "two", "--count", "1", "--json")
    pipeline.wait_event(sender, "broker.away")
    [away, *_] = [e for e in pipeline.events(sender) if e["event"] == "broker.away"]
    assert "no longer has the queue 'requests'" in away["error"]
    assert [q["name"] for q in pipeline.api("GET", f"queues/{pipeline.name}")] == ["requests.dead"]
    # An operator recreates it on purpose.
    worker = pipeline.worker("worker-1")
    assert sender.wait(20) == 0
    pipeline.wait_served(1)
    assert [row.counter for row in pipeline.rows()] == [2]
    assert [e["event"] for e in pipeline.events(worker)].count("queue.made") == 1


def test_a_worker_that_recreates_a_queue_reports_what_is_lost(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1")
    pipeline.send("served")
    pipeline.wait_served(1)
    pipeline.wait_all_settled()
    pipeline.api("DELETE", f"queues/{pipeline.name}/requests")
    pipeline.wait_event(worker, "queue.made_again")
    [said] = [e for e in pipeline.events(worker) if e["event"] == "queue.made_again"]
    assert said["level"] == "warning"
    assert "'worker audit' shows them as missing" in said["error"]
    pipeline.send("goes on")
    pipeline.wait_served(2)


def test_nothing_is_published_to_a_node_of_another_cluster_than_the_url_names(
    pipeline: Pipeline,
) -> None:
    name = quote(pipeline.servers.rabbitmq.api("GET", "cluster-name")["name"])
    url = f"{pipeline.amqp_url}?cluster="
    stranger = {"AMQP_URL": f"{url}another%40host"}
    result = pipeline.run("producer", "send", "x", "--count", "1", code=ExitCode.CONFIG, **stranger)
    assert "not to 'another@host' as AMQP_URL says" in result.stderr
    pipeline.run("worker", "run", code=ExitCode.CONFIG, **stranger)
    assert pipeline.status()["waiting"] == 1
    pipeline.run("producer", "flush", AMQP_URL=f"{url}{name}")
    # When the URL names several nodes, such a node is merely skipped.
    both = f"{url}another%40host,{url}{name}"
    for _ in range(3):
        pipeline.run("producer", "send", "x", "--count", "1", AMQP_URL=both)
    assert pipeline.status()["confirmed"] == 4
