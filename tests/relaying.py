"""Helpers for tests of relays: start them, commit requests for them, inspect their tables."""

from __future__ import annotations

import urllib.request
from typing import Any

from lab.harness.process import Process
from tests.pipeline import Pipeline
from turnwise import outbox


def start(pipeline: Pipeline, name: str, **environment: str) -> Process:
    """Start a relay."""
    return pipeline.start(name, "producer", "relay", "--name", name, **environment)


def at_work(pipeline: Pipeline, name: str) -> Process:
    """Start a relay, and wait until it is the working one."""
    relay = start(pipeline, name)
    pipeline.wait_event(relay, "relay.working")
    return relay


def two_relays(pipeline: Pipeline, **first: str) -> tuple[Process, Process]:
    """Start a relay that is active, with this environment, and one that stands by."""
    active = start(pipeline, "relay-1", **first)
    pipeline.wait_event(active, "relay.working")
    standby = start(pipeline, "relay-2")
    pipeline.wait_event(standby, "relay.standing_by")
    return active, standby


def commit(pipeline: Pipeline, *messages: str, queue: str = "requests") -> None:
    """Commit messages to the outbox in one transaction."""
    with pipeline.servers.database.connect(pipeline.name) as cursor:
        cursor.execute("BEGIN")
        for message in messages:
            outbox.send(cursor, queue, message)
        cursor.execute("COMMIT")


def waiting(pipeline: Pipeline) -> int:
    """Return how many rows wait in the outbox."""
    [(count,)] = pipeline.servers.database.query("SELECT COUNT(*) FROM outbox", name=pipeline.name)
    return int(count)


def client(pipeline: Pipeline, queue: str = "requests") -> str:
    """Return the client's name under which the relay publishes to a queue."""
    [(name,)] = pipeline.servers.database.query(
        "SELECT client FROM outbox_clients WHERE queue = %s", queue, name=pipeline.name
    )
    return str(name)


def wait_empty(pipeline: Pipeline) -> None:
    """Wait until neither the outbox nor the relay's batches hold anything."""
    pipeline.wait(lambda: waiting(pipeline) == 0, "an empty outbox")
    batches = pipeline.servers.database.query("SELECT * FROM outbox_batches", name=pipeline.name)
    assert batches == []


def wait_numbered(pipeline: Pipeline, count: int) -> None:
    """Wait until this many requests of the queue 'requests' have a number."""
    query = "SELECT last FROM outbox_clients WHERE queue = 'requests'"
    pipeline.wait(
        lambda: pipeline.servers.database.query(query, name=pipeline.name) == [(count,)],
        f"{count} numbers",
    )


def events(pipeline: Pipeline, relay: Process, name: str) -> list[dict[str, Any]]:
    return [event for event in pipeline.events(relay) if event["event"] == name]


def get(port: int, page: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as response:
        return str(response.read().decode())
