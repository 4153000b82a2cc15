"""Ctrl-C and SIGTERM: what can be sent is sent, within five seconds whatever the broker does."""

from __future__ import annotations

import signal
import time

import pytest

from lab.harness.process import Process, free_port
from producer.report import STOP_GRACE
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode

SLACK = 1.0
"""Seconds for a busy machine, and for Python to end."""


def stop(sender: Process, number: signal.Signals = signal.SIGINT) -> tuple[int | None, float]:
    """Signal the producer to stop; return its exit code and the seconds it took."""
    asked = time.monotonic()
    sender.signal(number)
    return sender.wait(60), time.monotonic() - asked


def assert_it_says_what_waits(pipeline: Pipeline, sender: Process) -> None:
    waiting = pipeline.status()["waiting"]
    assert waiting > 0
    assert f"waiting {waiting:,}" in sender.log.read_text().splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_in_time_if_the_broker_freezes_during_a_publish(
    pipeline: Pipeline, number: signal.Signals
) -> None:
    proxy, through = pipeline.broker_proxy()
    sender = pipeline.start(
        "producer", "producer", "send", "hello", "--quantum", "1ms", AMQP_URL=through
    )
    pipeline.wait(
        lambda: pipeline.outbox.exists() and pipeline.status()["confirmed"] > 0, "it sends"
    )
    proxy.hold(proxy.up, proxy.down)
    before = pipeline.status()["waiting"]
    pipeline.wait(lambda: pipeline.status()["waiting"] > before + 100, "requests wait")
    code, seconds = stop(sender, number)
    assert code == ExitCode.WAITING
    assert seconds < STOP_GRACE + SLACK
    assert_it_says_what_waits(pipeline, sender)


@pytest.mark.parametrize("after", [0, 1, 560, 650, 750])
def test_it_stops_in_time_if_the_broker_freezes_during_the_connect(
    pipeline: Pipeline, after: int
) -> None:
    """After this many bytes: before the first, during the handshake, and after it."""
    proxy, through = pipeline.broker_proxy()
    proxy.down.latency = 0.2
    if not after:
        proxy.hold(proxy.up, proxy.down)
    sender = pipeline.start(
        "producer", "producer", "send", "hello", "--count", "5", "--quantum", "0", AMQP_URL=through
    )
    pipeline.wait(lambda: proxy.connections and proxy.down.passed >= after, "it is that far")
    proxy.hold(proxy.up, proxy.down)
    pipeline.wait(lambda: pipeline.outbox.exists() and pipeline.status()["waiting"] == 5, "5 wait")
    code, seconds = stop(sender)
    assert code == ExitCode.WAITING
    assert seconds < STOP_GRACE + SLACK
    assert_it_says_what_waits(pipeline, sender)


def test_it_stops_at_once_if_the_broker_is_away(pipeline: Pipeline) -> None:
    """Nothing can be published then, so it does not wait."""
    away = pipeline.servers.rabbitmq.url(pipeline.name, free_port())
    sender = pipeline.start("producer", "producer", "send", "hello", AMQP_URL=away)
    pipeline.wait(lambda: "cannot reach" in sender.log.read_text(), "it reports the outage")
    code, seconds = stop(sender)
    assert code == ExitCode.WAITING
    assert seconds < STOP_GRACE / 2
    assert_it_says_what_waits(pipeline, sender)


def test_messages_accepted_while_it_connects_are_sent(pipeline: Pipeline) -> None:
    proxy, through = pipeline.broker_proxy()
    proxy.down.latency = 0.1
    sender = pipeline.start(
        "producer", "producer", "send", "hello", "--quantum", "1ms", AMQP_URL=through
    )
    pipeline.wait(lambda: proxy.connections, "it connects")
    code, seconds = stop(sender)
    assert code == ExitCode.OK
    assert seconds < STOP_GRACE + SLACK
    status = pipeline.status()
    assert status["confirmed"] == status["accepted"] > 0


def test_messages_accepted_while_the_queue_is_new_are_sent(pipeline: Pipeline) -> None:
    """The first publish waits a second for RabbitMQ to persist the new queue."""
    sender = pipeline.start("producer", "producer", "send", "hello", "--quantum", "1ms")
    pipeline.wait(lambda: pipeline.api("GET", f"queues/{pipeline.name}"), "a queue")
    assert pipeline.status()["confirmed"] == 0
    code, _seconds = stop(sender)
    assert code == ExitCode.OK
    status = pipeline.status()
    assert status["confirmed"] == status["accepted"] > 0
    assert pipeline.ready() == status["accepted"]


def test_a_flush_is_stopped_like_a_send(pipeline: Pipeline) -> None:
    away = pipeline.servers.rabbitmq.url(pipeline.name, free_port())
    sender = pipeline.start("producer", "producer", "send", "hello", AMQP_URL=away)
    pipeline.wait(lambda: pipeline.outbox.exists() and pipeline.status()["waiting"], "one waits")
    stop(sender)
    proxy, through = pipeline.broker_proxy()
    proxy.hold(proxy.up, proxy.down)
    flush = pipeline.start("flush", "producer", "flush", AMQP_URL=through)
    pipeline.wait(lambda: proxy.connections, "it connects")
    code, seconds = stop(flush)
    assert code == ExitCode.WAITING
    assert seconds < STOP_GRACE + SLACK
    assert_it_says_what_waits(pipeline, flush)
