"""A primary and its replica: what a fail-over loses, what prevents it, and how to recover.

Two real MariaDB servers. STOP SLAVE IO_THREAD makes the replica fall behind, as a slow link
would.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lab.harness import packages
from lab.harness.database import NAME, USER, PrivateDatabase
from lab.harness.process import Process, free_port
from lab.harness.servers import DEFAULT_FOLDER
from tests.pipeline import Pipeline

pytestmark = pytest.mark.timeout(300)

MAY_LOSE = "database.may_lose"
WAIT = (
    "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC,"
    " rpl_semi_sync_master_wait_no_slave = ON,"
    " rpl_semi_sync_master_timeout = 4294967295, rpl_semi_sync_master_enabled = ON"
)


class Pair:
    """Two servers that are not replicating yet."""

    def __init__(self, folder: Path) -> None:
        _, programs = packages.find(DEFAULT_FOLDER / "packages")
        self.primary, self.replica = (
            PrivateDatabase(folder, name) for name in ("primary", "replica")
        )
        self.replica.password = self.primary.password
        for number, server in enumerate((self.primary, self.replica), 1):
            server.options = [f"--server-id={number}", "--log-bin", "--sync-binlog=1"]
            server.equip(programs)
        self.url = f"{self.primary.url()},{self.replica.url()}"

    def start(self, *, wait: bool) -> None:
        """Start both servers, one as a replica; with ``wait``, each commit waits for it."""
        for server in (self.primary, self.replica):
            server.start()
            server.query("RESET MASTER")
        if wait:
            self.primary.query(WAIT)
            self.replica.query("SET GLOBAL rpl_semi_sync_slave_enabled = ON")
        self.replica.query(
            "CHANGE MASTER TO master_host = '127.0.0.1', master_port = %s, master_user = %s,"
            " master_password = %s, master_use_gtid = slave_pos",
            self.primary.port,
            USER,
            self.primary.password,
        )
        self.replica.query("START SLAVE")

    def fail_over(self) -> None:
        """Kill the primary, and promote the replica with the rows it has."""
        self.primary.kill()
        self.replica.query("STOP SLAVE")
        self.replica.query("RESET SLAVE ALL")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path / "pair")
    try:
        yield pair
    finally:
        for server in (pair.primary, pair.replica):
            server.kill()


def rows(server: PrivateDatabase) -> list[Any]:
    statement = "SELECT client, counter, message FROM requests ORDER BY client, counter"
    return server.query(statement, name=NAME)


def status(server: PrivateDatabase, name: str) -> str:
    return str(server.query("SHOW GLOBAL STATUS LIKE %s", name)[0][1])


def wait_rows(pipeline: Pipeline, server: PrivateDatabase, count: int) -> None:
    pipeline.wait(lambda: len(rows(server)) == count, f"{count} rows")


def audited(pipeline: Pipeline, url: str, code: int) -> dict[str, Any]:
    said = pipeline.run("worker", "audit", "--json", MYSQL_URL=url, code=code).stdout
    [account] = json.loads(said)["clients"]
    return dict(account)


def serve(pipeline: Pipeline, pair: Pair) -> Process:
    pipeline.wait(lambda: status(pair.primary, "Slaves_connected") == "1", "the replica is there")
    worker = pipeline.worker("worker-1", MYSQL_URL=pair.url)
    pipeline.send_counted(5)
    wait_rows(pipeline, pair.replica, 5)
    return worker


def put(pipeline: Pipeline, requests: list[Any]) -> None:
    port = free_port()
    door = pipeline.start("door", "producer", "serve", "--http", str(port))
    pipeline.wait_event(door, "door.serving")
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for client, counter, message in requests:
            answer = 503  # until the door has reached RabbitMQ
            while answer == 503:
                connection.request("PUT", f"/requests/{quote(client)}/{counter}", message.encode())
                response = connection.getresponse()
                response.read()
                answer = response.status
            assert answer == 201


def test_rows_an_asynchronous_replica_lacked_are_lost_and_restored_through_the_door(
    pipeline: Pipeline, pair: Pair
) -> None:
    pair.start(wait=False)
    worker = serve(pipeline, pair)
    client = pipeline.client()
    pair.replica.query("STOP SLAVE IO_THREAD")
    pipeline.send_counted(5)
    wait_rows(pipeline, pair.primary, 10)
    pipeline.wait_all_settled()
    pair.fail_over()
    # Ten were acked, and five are left. Until a later request follows, no audit can notice.
    assert len(rows(pair.replica)) == 5
    assert audited(pipeline, pair.url, 0)["missing"] == 0
    pipeline.send_counted(3)
    wait_rows(pipeline, pair.replica, 8)
    account = audited(pipeline, pair.url, 1)
    assert account["missing"] == 5
    assert pipeline.status()["accepted"] == 13
    # The old primary's disk has them; all of its rows may be put again, repeats included.
    pair.primary.start()
    put(pipeline, rows(pair.primary))
    wait_rows(pipeline, pair.replica, 13)
    assert [row[1] for row in rows(pair.replica)] == list(range(1, 14))
    assert audited(pipeline, pair.replica.url(), 0)["missing"] == 0
    assert {row[0] for row in rows(pair.replica)} == {client}
    # The risk was logged beforehand.
    [said] = [each["reason"] for each in pipeline.events(worker) if each["event"] == MAY_LOSE]
    assert "does not wait for its replicas" in said
    assert pair.primary.password not in said


def test_with_semi_synchronous_replication_nothing_acked_can_be_lost(
    pipeline: Pipeline, pair: Pair
) -> None:
    pair.start(wait=True)
    worker = serve(pipeline, pair)
    pair.replica.query("STOP SLAVE IO_THREAD")
    pipeline.send_counted(5)
    pipeline.wait(
        lambda: status(pair.primary, "Rpl_semi_sync_master_wait_sessions") == "1", "it waits"
    )
    # The write is in the primary's binary log but visible to no one, so no repeat is acked by it.
    assert len(rows(pair.primary)) == 5
    pipeline.wait(lambda: pipeline.messages() == 5, "all five are seen in the queue")
    pair.fail_over()
    wait_rows(pipeline, pair.replica, 10)
    pipeline.wait_all_settled()
    account = audited(pipeline, pair.replica.url(), 0)
    assert (account["missing"], account["repeated"]) == (0, 0)
    assert MAY_LOSE not in {each["event"] for each in pipeline.events(worker)}
