"""A worker's memory, whatever and however much the broker delivers."""

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
    """Return the process's peak memory so far, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [kib] = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(kib) / 1024


@pytest.fixture
def unlimited(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Let the broker accept messages of any size, as RabbitMQ does by default."""
    ctl = pipeline.servers.rabbitmq.ctl
    limit = "application:set_env(rabbit, max_message_size, {})."
    ctl("eval", limit.format(128 * MIB))
    yield pipeline
    ctl("eval", limit.format(128 * 1024))


def test_a_message_larger_than_a_request_is_never_buffered(unlimited: Pipeline) -> None:
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


def test_a_full_prefetch_of_the_largest_requests_fits_into_the_pod(pipeline: Pipeline) -> None:
    """The database is away, the prefetch is full, and each request is as large as allowed."""
    worker = pipeline.worker("worker-1", "--prefetch", str(MAX_PREFETCH))
    before = peak(worker)
    # Each of these bytes takes six in JSON.
    message = "\x01" * MAX_MESSAGE_BYTES
    count = MAX_PREFETCH + 100
    pipeline.servers.database.kill()
    with pipeline.channel() as channel:
        for counter in range(1, count + 1):
            request = Request("large", counter, message, datetime.now(UTC))
            channel.basic_publish("requests", "requests", request.encode(), request.properties())
    pipeline.wait(lambda: pipeline.ready() == 100, "a full prefetch that is held")
    in_hand = MAX_PREFETCH * len(request.encode()) / MIB
    assert in_hand > 90
    assert peak(worker) - before < in_hand + 20
    pipeline.servers.database.start()
    pipeline.wait_served(count)
    pipeline.wait_all_settled()
    assert peak(worker) < POD - 50
    pipeline.assert_exactly_once("large", count)


def test_a_prefetch_that_would_not_fit_is_refused(pipeline: Pipeline) -> None:
    too_many = str(MAX_PREFETCH + 1)
    pipeline.run("worker", "run", "--prefetch", too_many, code=ExitCode.USAGE)


def test_the_broker_refuses_messages_too_large_to_be_a_request(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    with pipeline.channel() as channel:
        channel.confirm_delivery()
        with pytest.raises(Exception, match="larger than configured max size"):
            channel.basic_publish("requests", "requests", bytes(MIB))
