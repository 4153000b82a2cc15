"""The worker facing outages of everything, and messages that are not requests."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pika
import pytest
from pika import spec

from lab.harness.process import Process
from tests.malformed import MALFORMED, VALID
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode
from turnwise.message import MAX_BODY_BYTES
from turnwise.topology import Topology


def test_a_larger_prefetch_commits_what_has_arrived_at_once(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1", "--prefetch", "200")
    with pipeline.servers.database.connect(pipeline.name) as table:
        table.execute("LOCK TABLES requests WRITE")
        client = pipeline.send_counted(1000)
        pipeline.wait_writing()
        table.execute("UNLOCK TABLES")
    rows = pipeline.wait_served(1000)
    pipeline.assert_exactly_once(client, 1000)
    # Rows of one statement share one time.
    batches = Counter(row.served_at for row in rows)
    assert max(batches.values()) > 50
    assert [row.counter for row in rows] == list(range(1, 1001))


def test_a_lone_request_does_not_wait_for_others(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1", "--prefetch", "1000")
    client = pipeline.send("alone")
    pipeline.wait_served(1)
    pipeline.assert_exactly_once(client, 1)
    pipeline.wait_all_settled()


def test_a_batch_is_stored_whole_or_not_at_all(pipeline: Pipeline) -> None:
    """One request of the batch is already stored: the others are stored, the repeat is counted."""
    worker = pipeline.worker("worker-1", "--prefetch", "200")
    body = json.dumps(VALID | {"counter": 50}).encode()
    pipeline.publish(body)
    pipeline.wait_served(1)
    with pipeline.servers.database.connect(pipeline.name) as table, pipeline.channel() as channel:
        table.execute("LOCK TABLES requests WRITE")
        for counter in (1000, *range(1, 100), 50, 50):
            body = json.dumps(VALID | {"counter": counter}).encode()
            channel.basic_publish("requests", "requests", body)
        pipeline.wait_writing()
        table.execute("UNLOCK TABLES")
    pipeline.wait_served(100)
    pipeline.wait_all_settled()
    rows = {row.counter: row for row in pipeline.rows()}
    assert sorted(rows) == [*range(1, 100), 1000]
    assert rows[50].deliveries == 4
    assert sum(row.deliveries for row in rows.values()) == 103
    assert worker.alive()


def test_a_worker_survives_a_database_outage_with_a_broker_restart_in_it(
    pipeline: Pipeline,
) -> None:
    """Nothing is rejected, requeued or dead-lettered; no heartbeat is lost; then it resumes."""
    url = f"{pipeline.amqp_url}?heartbeat=2"
    worker = pipeline.worker("worker-1", AMQP_URL=url)
    client = pipeline.send("one")
    pipeline.wait_served(1)
    pipeline.servers.database.kill()
    pipeline.send("two", "three")
    pipeline.wait_event(worker, "database.away")
    # Longer than the broker would wait for a heartbeat. Then the broker fails as well.
    time.sleep(6)
    names = [event["event"] for event in pipeline.events(worker)]
    assert "broker.away" not in names
    assert names.count("worker.consuming") == 1
    pipeline.servers.rabbitmq.stop()
    pipeline.servers.rabbitmq.start()
    pipeline.servers.database.start()
    pipeline.wait_served(3)
    rows = pipeline.assert_exactly_once(client, 3)
    assert [row.counter for row in rows] == [1, 2, 3]
    assert worker.alive()
    assert pipeline.ready("requests.dead") == 0
    names = [event["event"] for event in pipeline.events(worker)]
    assert "database.back" in names


def test_a_hung_database_costs_nothing_but_time(pipeline: Pipeline) -> None:
    """It hangs during a commit, for longer than the worker waits for an answer."""
    worker = pipeline.worker("worker-1")
    client = pipeline.send("one")
    pipeline.wait_served(1)
    pipeline.servers.database.runner.pause()
    try:
        pipeline.send("two", "three")
        pipeline.wait_event(worker, "database.away")
    finally:
        pipeline.servers.database.runner.resume()
    pipeline.wait_served(3)
    pipeline.assert_exactly_once(client, 3)
    names = [event["event"] for event in pipeline.events(worker)]
    assert names.count("worker.consuming") == 1


def test_a_channel_closed_by_the_broker_is_reopened(pipeline: Pipeline) -> None:
    """pika's loop keeps running when only the channel is closed."""
    proxy, through_proxy = pipeline.broker_proxy()
    worker = pipeline.worker("worker-1", AMQP_URL=through_proxy)

    def numbers() -> list[int]:
        # The management API reports a consumer before its channel.
        details = [c["channel_details"] for c in pipeline.queue().get("consumer_details", [])]
        return [channel["number"] for channel in details if channel]

    pipeline.wait(numbers, "the consumer's channel")
    [number] = numbers()
    # Ack an unknown delivery tag: the broker closes the channel, and only that.
    proxy.inject(pika.frame.Method(number, spec.Basic.Ack(999_999)).marshal())
    pipeline.wait_event(worker, "worker.consuming", times=2)
    [away] = [e for e in pipeline.events(worker) if e["event"] == "broker.away"]
    assert "unknown delivery tag" in away["error"]
    client = pipeline.send_counted(3)
    pipeline.wait_served(3)
    pipeline.assert_exactly_once(client, 3)


def test_a_cancelled_consumer_consumes_again(pipeline: Pipeline) -> None:
    """The queue is deleted, and the worker itself recreates it."""
    worker = pipeline.worker("worker-1")
    pipeline.api("DELETE", f"queues/{pipeline.name}/requests")
    pipeline.wait_event(worker, "worker.consuming", times=2)
    client = pipeline.send_counted(3)
    pipeline.wait_served(3)
    pipeline.assert_exactly_once(client, 3)


def test_connections_closed_by_an_operator_come_back(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1")
    names: list[str] = []

    def connections() -> list[str]:
        names[:] = [c["name"] for c in pipeline.api("GET", f"vhosts/{pipeline.name}/connections")]
        return names

    pipeline.wait(connections, "a connection")
    for name in names:
        pipeline.api("DELETE", f"connections/{quote(name)}")
    pipeline.wait_event(worker, "worker.consuming", times=2)


def test_other_clients_are_served(pipeline: Pipeline) -> None:
    """docs/message-format.md is all they need; here, the management API publishes."""
    pipeline.worker("worker-1")
    payload = {
        "client": "another-language",
        "counter": 1,
        "message": "ünïcödé",
        "sent_at": "2026-01-31T23:59:59.5Z",
    }
    answer = pipeline.api(
        "POST",
        f"exchanges/{pipeline.name}/requests/publish",
        {
            "routing_key": "requests",
            "payload": json.dumps(payload),
            "payload_encoding": "string",
            "properties": {"delivery_mode": 2},
        },
    )
    assert answer == {"routed": True}
    [row] = pipeline.wait_served(1)
    assert (row.client, row.counter, row.message) == ("another-language", 1, "ünïcödé")
    assert row.sent_at.isoformat() == "2026-01-31T23:59:59.500000"


def test_malformed_messages_are_dead_lettered_and_valid_ones_served(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1", "--prefetch", "10")
    pid = worker.pid
    with pipeline.channel() as channel:
        for number, (_, body, _) in enumerate(MALFORMED, 1):
            valid = json.dumps(VALID | {"counter": number}).encode()
            channel.basic_publish("requests", "requests", body)
            channel.basic_publish("requests", "requests", valid)
    pipeline.wait_served(len(MALFORMED))
    pipeline.wait_all_settled()
    pipeline.wait(lambda: pipeline.ready("requests.dead") == len(MALFORMED), "all dead letters")
    assert worker.pid == pid
    pipeline.assert_exactly_once("client", len(MALFORMED))
    output = pipeline.run("worker", "dead", "list", "--json", "--limit", "1000").stdout
    letters = [json.loads(line) for line in output.splitlines()]
    assert len(letters) == len(MALFORMED)
    # Oversized messages are rejected before they arrive in full, hence before their neighbours.
    found = [(letter["detail"].partition(":")[0], letter["size"]) for letter in letters]
    assert sorted(found) == sorted((field, len(body)) for _, body, field in MALFORMED)
    for letter in letters:
        assert letter["reason"] == "invalid"
        # Nothing of an oversized message is buffered, not even its properties.
        assert letter["died_at"] or letter["size"] > MAX_BODY_BYTES


def test_another_message_with_the_same_identity_is_a_conflict(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1")
    pipeline.publish(json.dumps(VALID).encode(), message_id="client/7")
    pipeline.publish(json.dumps(VALID | {"message": "other"}).encode(), message_id="client/7")
    pipeline.publish(json.dumps(VALID).encode(), message_id="client/7")
    pipeline.wait_event(worker, "request.dead_lettered")
    pipeline.wait_all_settled()
    [row] = pipeline.rows()
    assert (row.message, row.deliveries) == ("hello", 2)
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 1, "the dead letter")
    listed = pipeline.run("worker", "dead", "list").stdout
    assert "conflict" in listed
    assert "client/7" in listed


def test_dead_letters_are_replayed_and_dropped(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    pipeline.publish(json.dumps(VALID).encode(), message_id="client/7")
    for message in ("other", "another"):
        body = json.dumps(VALID | {"message": message}).encode()
        pipeline.publish(body, message_id="client/7")
    pipeline.publish(b"no request")
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 3, "three dead letters")
    listing = [
        json.loads(line)
        for line in pipeline.run("worker", "dead", "list", "--json").stdout.splitlines()
    ]
    other, another, invalid = (letter["id"] for letter in listing)

    assert "no dead letter nonesuch" in pipeline.run(
        "worker", "dead", "drop", "nonesuch", code=ExitCode.FAILED
    ).stderr  # fmt: skip
    pipeline.run("worker", "dead", "drop", code=ExitCode.USAGE)
    assert pipeline.run("worker", "dead", "drop", another).stdout == "dropped 1\n"
    # Once the stored row is removed, the other message no longer conflicts.
    pipeline.servers.database.query("DELETE FROM requests", name=pipeline.name)
    assert pipeline.run("worker", "dead", "replay", other).stdout == "replayed 1\n"
    [row] = pipeline.wait_served(1)
    assert row.message == "other"
    # A message that is still malformed is dead-lettered again, once.
    assert pipeline.run("worker", "dead", "replay", "--all").stdout == "replayed 1\n"
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 1, "it is back")
    [left] = pipeline.run("worker", "dead", "list", "--json").stdout.splitlines()
    assert json.loads(left)["id"] == invalid
    assert pipeline.run("worker", "dead", "drop", "--all").stdout == "dropped 1\n"
    assert pipeline.run("worker", "dead", "list").stdout == "no dead letters\n"


def test_the_topology_is_as_designed(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    queue, dead = pipeline.queue(), pipeline.queue("requests.dead")
    assert queue["type"] == dead["type"] == "quorum"
    assert queue["durable"]
    assert queue["arguments"] == Topology().queue_arguments
    assert queue["arguments"]["x-delivery-limit"] == 1000


def test_a_queue_with_other_arguments_is_reported(pipeline: Pipeline) -> None:
    with pipeline.channel() as channel:
        channel.queue_declare("requests", durable=True, arguments={"x-queue-type": "quorum"})
    result = pipeline.run("worker", "run", code=ExitCode.CONFIG)
    assert "inequivalent arg" in result.stderr
    assert "--queue" in result.stderr
    # A second pipeline beside it.
    pipeline.worker("worker-1", "--queue", "others")


def test_the_management_ui_shows_who_is_who(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    sender = pipeline.start("sender", "producer", "send", "hello")
    client = pipeline.wait_client()

    def names() -> set[str]:
        connections = pipeline.api("GET", f"vhosts/{pipeline.name}/connections")
        return {c["client_properties"].get("connection_name", "") for c in connections}

    pipeline.wait(lambda: names() == {"worker worker-1", f"producer {client}"}, "both names")
    pipeline.wait(lambda: pipeline.queue().get("consumer_details"), "the consumer")
    [consumer] = pipeline.queue()["consumer_details"]
    assert consumer["consumer_tag"] == "worker-1"
    sender.signal(signal.SIGTERM)
    assert sender.wait(10) == 0


def catches(process: Process, number: signal.Signals) -> bool:
    """Return whether the process has its own handler for the signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [mask] = re.findall(r"^SigCgt:\s+(\w+)", status, re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_a_second_signal_ends_a_worker_at_once(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1")
    with pipeline.servers.database.connect(pipeline.name) as table:
        table.execute("LOCK TABLES requests WRITE")
        client = pipeline.send("hello")
        pipeline.wait_writing()
        worker.signal(signal.SIGTERM)
        # Two signals at once would be merged into one.
        pipeline.wait(lambda: not catches(worker, signal.SIGTERM), "the first is noticed")
        worker.signal(signal.SIGTERM)
        assert worker.wait(5) == -signal.SIGTERM
        table.execute("UNLOCK TABLES")
    pipeline.worker("worker-2")
    pipeline.wait_served(1)
    pipeline.assert_exactly_once(client, 1)


@pytest.fixture
def serving_only(pipeline: Pipeline) -> Iterator[str]:
    """Yield the MYSQL_URL of an account that may serve but not change tables."""
    query, user = pipeline.servers.database.query, f"{pipeline.name}-only"[-32:]
    query(f"CREATE USER '{user}'@'%' IDENTIFIED BY 'only'")
    query(f"GRANT SELECT, INSERT, UPDATE ON `{pipeline.name}`.* TO '{user}'@'%'")
    yield f"mysql://{user}:only@127.0.0.1:{pipeline.servers.database.port}/{pipeline.name}"
    query(f"DROP USER '{user}'@'%'")


def test_a_worker_without_the_right_to_create_tables_waits_for_them(
    pipeline: Pipeline, serving_only: str
) -> None:
    worker = pipeline.start("worker-1", "worker", "run", MYSQL_URL=serving_only)
    pipeline.wait_event(worker, "database.away")
    [away, *_] = [e for e in pipeline.events(worker) if e["event"] == "database.away"]
    assert "worker migrate" in away["error"]
    client = pipeline.send("hello")
    pipeline.run("worker", "migrate")
    pipeline.wait_served(1)
    pipeline.assert_exactly_once(client, 1)


@pytest.mark.parametrize("workers", [5])
def test_many_workers_start_at_once(pipeline: Pipeline, workers: int) -> None:
    started = [
        pipeline.start(f"worker-{i}", "worker", "run", "--name", f"worker-{i}")
        for i in range(workers)
    ]
    for worker in started:
        pipeline.wait_event(worker, "worker.consuming")
    migrated = [e for w in started for e in pipeline.events(w) if e["event"] == "schema.migrated"]
    assert len(migrated) == 1
