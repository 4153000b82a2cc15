"""What a worker keeps in memory, however much the broker hands out and whatever it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab.harness.process import Process
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode
from turnwise.limits import MAX_MESSAGE_BYTES
from turnwise.message import MAX_BODY_BYTES, Request
from worker.commands.run import MAX_PREFETCH

MIB = 2**20
POD = 256
"""MiB, the limit that k8s/ sets."""


def peak(process: Process) -> float:
    """The most that it had in memory so far, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [kib] = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(kib) / 1024


@pytest.fixture
def unlimited(pipeline: Pipeline) -> Iterator[Pipeline]:
    """On a broker that takes messages of any size, as RabbitMQ does by itself."""
    ctl = pipeline.servers.rabbitmq.ctl
    limit = "application:set_env(rabbit, max_message_size, {})."
    ctl("eval", limit.format(128 * MIB))
    yield pipeline
    ctl("eval", limit.format(128 * 1024))


def test_what_is_larger_than_a_request_is_never_gathered(unlimited: Pipeline) -> None:
    pipeline = unlimited
    worker = pipeline.worker("worker-1", "--prefetch", "200")
    before = peak(worker)
    with pipeline.channel() as channel:
        channel.confirm_delivery()
        for _ in range(6):
            channel.basic_publish("requests", "requests", bytes(16 * MIB), mandatory=True)
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 6, "six dead letters")
    assert peak(worker) - before < 4
    client = pipeline.send("after them")
    pipeline.wait_served(1)
    pipeline.assert_exactly_once(client, 1)
    rejected = [e for e in pipeline.events(worker) if e["event"] == "request.dead_lettered"]
    assert [e["detail"] for e in rejected] == [
        f"body: has {16 * MIB} bytes, more than the {MAX_BODY_BYTES} allowed"
    ] * 6


def test_the_largest_requests_of_a_full_prefetch_fit_into_the_pod(pipeline: Pipeline) -> None:
    """The database away, all that may be in hand in hand, each as large as it may be."""
    worker = pipeline.worker("worker-1", "--prefetch", str(MAX_PREFETCH))
    before = peak(worker)
    # Each of these bytes is six in JSON.
    message = "\x01" * MAX_MESSAGE_BYTES
    count = MAX_PREFETCH + 100
    pipeline.servers.database.kill()
    with pipeline.channel() as channel:
        for counter in range(1, count + 1):
            request = Request("large", counter, message, datetime.now(UTC))
            channel.basic_publish("requests", "requests", request.encode(), request.properties())
    pipeline.wait(lambda: pipeline.ready() == 100, "a full prefetch in hand")
    in_hand = MAX_PREFETCH * len(request.encode()) / MIB
    assert in_hand > 90
    assert peak(worker) - before < in_hand + 20
    pipeline.servers.database.start()
    pipeline.wait_served(count)
    pipeline.wait_all_settled()
    assert peak(worker) < POD - 50
    pipeline.assert_exactly_once("large", count)


def test_a_prefetch_beyond_what_fits_is_refused(pipeline: Pipeline) -> None:
    too_many = str(MAX_PREFETCH + 1)
    pipeline.run("worker", "run", "--prefetch", too_many, code=ExitCode.USAGE)


def test_the_broker_refuses_at_the_door_what_no_request_can_be(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    with pipeline.channel() as channel:
        channel.confirm_delivery()
        with pytest.raises(Exception, match="larger than configured max size"):
            channel.basic_publish("requests", "requests", bytes(MIB))
