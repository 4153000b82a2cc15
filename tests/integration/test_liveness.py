"""Liveness: a server that is away does not end a process; a loop that hangs does."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request
from collections.abc import Iterator, Sequence

import pytest

from lab.harness.commands import BIN
from lab.harness.process import Process, free_port
from tests.pipeline import Pipeline

BLOCKED = 12.0
"""Seconds that a loop may stand still at most: a call to a hung database, and some."""


def silence(port: int) -> float:
    """Return the seconds since the loop last turned, as the probe reports them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        return float(json.loads(answer.read())["seconds_since_turn"])


def longest_silence(ports: Sequence[int], seconds: float) -> list[float]:
    """Poll the probes for a while; return the longest silence of each."""
    longest = [0.0] * len(ports)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        longest = [max(most, silence(port)) for most, port in zip(longest, ports, strict=True)]
        time.sleep(0.1)  # a polling rate, not a wait for something
    return longest


@pytest.fixture
def mute() -> Iterator[int]:
    """Yield a port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


def started(pipeline: Pipeline, processes: Sequence[Process]) -> None:
    for process in processes:
        pipeline.wait_event(process, "worker.started")


def test_the_loop_keeps_turning_during_outages(pipeline: Pipeline, mute: int) -> None:
    """Servers that refuse or hang for longer than anything may block."""
    rabbitmq, database = pipeline.servers.rabbitmq, pipeline.servers.database
    nobody = free_port()
    worlds = {
        "no-broker": {"AMQP_URL": rabbitmq.url(pipeline.name, nobody)},
        "no-database": {"MYSQL_URL": database.url(pipeline.name, nobody)},
        "mute-broker": {"AMQP_URL": rabbitmq.url(pipeline.name, mute)},
        "mute-database": {"MYSQL_URL": database.url(pipeline.name, mute)},
    }
    ports = [free_port() for _ in worlds]
    workers = [
        pipeline.start(name, "worker", "run", "--http", str(port), **environment)
        for port, (name, environment) in zip(ports, worlds.items(), strict=True)
    ]
    started(pipeline, workers)
    producer_port = free_port()
    pipeline.start(
        "producer", "producer", "send", "x", "--quantum", "10s", "--http", str(producer_port),
        **worlds["mute-broker"],
    )  # fmt: skip
    pipeline.wait_client()
    longest = longest_silence([*ports, producer_port], 2 * BLOCKED)
    assert max(longest) < BLOCKED, dict(zip([*worlds, "producer"], longest, strict=True))
    # The loop turns once a second if nothing blocks.
    no_broker, _, mute_broker, mute_database, producer = longest
    assert max(no_broker, mute_broker, producer) < 3
    assert mute_database > 3


def test_a_hung_producer_is_reported_by_its_probe(pipeline: Pipeline) -> None:
    """Its output is not read, so its loop blocks in a write."""
    port = free_port()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb", buffering=0) as pipe:
        full = 0
        while (taken := pipe.write(bytes(4096))) is not None:
            full += taken
        os.set_blocking(writing, True)
        producer = Process(
            "producer",
            pipeline.folder,
            [BIN / "producer", "send", "x", "--json", "--http", str(port)],
            pipeline.environment(),
        )
        producer.output = writing
        producer.start()
        pipeline.wait_client()
        try:
            pipeline.wait(lambda: silence(port) > 3, "a loop that stands still")
        finally:
            producer.kill()
