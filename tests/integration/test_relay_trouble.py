"""producer relay: slow answers and rows changed by hand hold up nothing else."""

from __future__ import annotations

import contextlib

import pytest

from lab.harness.process import Process
from tests.pipeline import Pipeline
from tests.relaying import (
    at_work,
    client,
    commit,
    events,
    start,
    two_relays,
    wait_empty,
    wait_numbered,
    waiting,
)
from turnwise import broker as brokers
from turnwise.broker import Broker
from turnwise.errors import Transient
from turnwise.loop import Loop
from turnwise.node import parse_urls
from turnwise.topology import Topology


@pytest.fixture
def table(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with its tables created."""
    pipeline.run("worker", "migrate")
    return pipeline


def at_work_now(pipeline: Pipeline) -> tuple[int, int]:
    """Return the current epoch and the number of its heartbeats."""
    [(epoch, beat)] = pipeline.servers.database.query(
        "SELECT epoch, beat FROM outbox_relay", name=pipeline.name
    )
    return int(epoch), int(beat)


def test_a_slow_node_does_not_cost_the_relay_its_lease(table: Pipeline) -> None:
    proxy, through_proxy = table.broker_proxy()
    two_relays(table, AMQP_URL=through_proxy)
    proxy.hold(proxy.down)
    commit(table, "one")  # its queue must be declared, and the broker does not answer
    wait_numbered(table, 1)
    epoch, beat = at_work_now(table)
    # This takes longer than a lease, and than the server keeps a silent connection.
    table.wait(lambda: at_work_now(table) >= (epoch, beat + 7), "signs of life")
    assert at_work_now(table)[0] == epoch
    proxy.release(proxy.down)
    wait_empty(table)
    assert at_work_now(table)[0] == epoch


def test_an_unanswered_method_leaves_no_channel_behind(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "CALL_TIMEOUT", 0.2)
    monkeypatch.setattr(brokers, "CLOSE_TIMEOUT", 0.1)
    proxy, through_proxy = pipeline.broker_proxy()
    with (
        contextlib.closing(Loop()) as loop,
        Broker.connect(loop, parse_urls(through_proxy), "test") as broker,
    ):
        open_channels = broker._connection._channels  # noqa: SLF001 - the broker's own lag
        for _ in range(3):
            proxy.hold(proxy.down)
            with pytest.raises(Transient, match="has not answered"):
                Topology("slow").declare(broker)
        assert open_channels
        proxy.release(proxy.down)
        assert broker.wait(lambda: not open_channels, 20)


def leave_unconfirmed(table: Pipeline, *messages: str) -> None:
    """Let a relay number and publish these messages, and die before it sees a confirm."""
    proxy, through_proxy = table.broker_proxy()
    relay = start(table, "relay-1", AMQP_URL=through_proxy)
    table.wait_event(relay, "relay.working")
    proxy.hold(proxy.down)
    commit(table, *messages)
    wait_numbered(table, len(messages))
    end(table, relay)


def end(table: Pipeline, relay: Process) -> None:
    """Kill a relay so that the next one need not wait for its lease to expire."""
    relay.kill()
    table.servers.database.query("UPDATE outbox_relay SET holder = NULL", name=table.name)


def test_a_numbered_row_corrupted_by_hand_is_set_aside_until_repaired(
    table: Pipeline,
) -> None:
    leave_unconfirmed(table, "one", "two", "three")
    query = table.servers.database.query
    [(row_id, created_at)] = query(
        "SELECT id, created_at FROM outbox WHERE message = 'two'", name=table.name
    )
    with table.servers.database.connect(table.name) as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("UPDATE outbox SET created_at = 0 WHERE id = %s", (row_id,))
    table.worker("worker-1")
    relay = at_work(table, "relay-2")
    commit(table, "four")
    table.wait_served(3)
    assert sorted(row.counter for row in table.rows()) == [1, 3, 4]
    table.wait(lambda: waiting(table) == 1, "only the odd row is left")
    [event] = events(table, relay, "row.invalid")
    assert event["id"] == row_id
    assert event["number"] == 2
    assert "correct or delete it" in event["advice"]
    # The next relay sets it aside as well; once repaired, it is sent under its number.
    end(table, relay)
    third = at_work(table, "relay-3")
    table.wait_event(third, "row.invalid")
    commit(table, "five")
    table.wait_served(4)
    query("UPDATE outbox SET created_at = %s WHERE id = %s", created_at, row_id, name=table.name)
    table.wait_served(5)
    rows = table.assert_exactly_once(client(table), 5)
    assert [r.message for r in sorted(rows, key=lambda r: r.counter)] == [
        "one", "two", "three", "four", "five"
    ]  # fmt: skip
    wait_empty(table)


def test_an_invalid_row_without_a_number_is_sent_once_repaired(table: Pipeline) -> None:
    with table.servers.database.connect(table.name) as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(
            "INSERT INTO outbox (queue, message, created_at) VALUES ('requests', 'odd', 0)"
        )
    relay = at_work(table, "relay-1")
    table.wait_event(relay, "row.invalid")
    table.servers.database.query("UPDATE outbox SET created_at = UTC_TIMESTAMP(6)", name=table.name)
    wait_empty(table)
    assert table.ready() == 1


def test_a_batch_without_its_client_is_renumbered(table: Pipeline) -> None:
    """As the documentation advises operators who have restored a backup."""
    leave_unconfirmed(table, "one", "two")
    before = client(table)
    table.servers.database.query("DELETE FROM outbox_clients", name=table.name)
    table.worker("worker-1")
    at_work(table, "relay-2")
    wait_empty(table)
    assert client(table) != before
    # The earlier publishes have the numbers of another client.
    table.wait(
        lambda: [r.counter for r in table.rows() if r.client == client(table)] == [1, 2], "rows"
    )
