"""producer relay: a long backlog, many queues, and rows that somebody deletes meanwhile."""

from __future__ import annotations

import sys

import pytest

from lab.harness.process import Process
from tests.pipeline import Pipeline
from tests.relaying import at_work, client, commit, start, wait_empty, wait_numbered

DOUBLED = 15
ROWS = 2**DOUBLED


@pytest.fixture
def table(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with its tables created."""
    pipeline.run("worker", "migrate")
    return pipeline


def test_a_row_costs_the_same_however_many_wait_behind_it(table: Pipeline) -> None:
    """Counted: the rows that the server reads for each one sent, and the statements."""
    database = table.servers.database
    commit(table, "hello")
    for _ in range(DOUBLED):
        database.query(
            "INSERT INTO outbox (queue, message) SELECT queue, message FROM outbox", name=table.name
        )
    statements, read = _counted(table)
    at_work(table, "relay-1")
    wait_numbered(table, ROWS)
    wait_empty(table)
    # Each row is read once when it is numbered, and once when it is deleted; the rest is what
    # reading between two ids costs, the tests' own questions, and the server's.
    more, further = _counted(table)
    assert further - read < 3 * ROWS
    assert more - statements < ROWS / 10
    assert table.ready() == ROWS


def _counted(table: Pipeline) -> tuple[int, int]:
    status = dict(table.servers.database.query("SHOW GLOBAL STATUS"))
    reads = ("Handler_read_next", "Handler_read_prev", "Handler_read_rnd_next")
    return int(status["Questions"]), sum(int(status[name]) for name in reads)


def test_rows_deleted_by_hand_hold_up_no_other(table: Pipeline) -> None:
    """Neither those that wait, nor those that are numbered, nor those that are published."""
    proxy, through_proxy = table.broker_proxy()
    first = start(table, "relay-1", AMQP_URL=through_proxy)
    table.wait_event(first, "relay.working")
    commit(table, "one")
    wait_empty(table)
    proxy.hold(proxy.down)  # no confirm arrives
    commit(table, "two", "three")
    table.wait(lambda: table.ready() == 3, "all published")
    proxy.hold(proxy.up)
    commit(table, "four")
    wait_numbered(table, 4)
    table.servers.database.query("DELETE FROM outbox", name=table.name)
    commit(table, "five")
    first.kill()
    at_work(table, "relay-2")
    wait_empty(table)
    table.worker("worker-1")
    rows = table.wait_served(4)
    table.wait_all_settled()
    # The number of "four" was given to it, and to nothing else.
    assert {row.counter: row.message for row in rows} == {1: "one", 2: "two", 3: "three", 5: "five"}
    assert {row.client for row in rows} == {client(table)}


FEW_CHANNELS = """
from pika.connection import Connection
from pika.exceptions import NoFreeChannels

import producer.cli
from producer.relay import shift

number = Connection._next_channel_number


def numbered(self):
    if len(self._channels) >= 6:
        raise NoFreeChannels
    return number(self)


Connection._next_channel_number = numbered
vars(shift).update(CHANNELS=4)
producer.cli.main(prog_name="producer")
"""


def test_more_queues_than_a_connection_has_channels_take_turns(table: Pipeline) -> None:
    queues = [f"queue-{number}" for number in range(12)]
    for queue in queues:
        commit(table, "one", "two", queue=queue)
    relay = Process(
        "relay-1",
        table.folder,
        [sys.executable, "-c", FEW_CHANNELS, "relay", "--name", "relay-1"],
        table.environment(),
    )
    table.adopt(relay)
    relay.start()
    wait_empty(table)
    for queue in queues:
        commit(table, "three", queue=queue)
    wait_empty(table)
    assert relay.alive()
    assert [table.ready(queue) for queue in queues] == [3] * len(queues)
