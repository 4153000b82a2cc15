"""Three RabbitMQ nodes and three of the database, as the lab runs them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.harness import commands, links
from lab.harness.errors import LabError
from lab.harness.process import wait_until
from lab.harness.servers import DEFAULT_FOLDER
from lab.harness.trio import Trio
from lab.house import environment
from tests.laboratory import lab
from turnwise import cluster

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for the lab that reuses the servers' programs already fetched."""
    packages = DEFAULT_FOLDER / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    (tmp_path / "packages").symlink_to(packages.resolve())
    return tmp_path


@pytest.fixture
def trio(folder: Path) -> Iterator[Trio]:
    trio = Trio(folder / "trio", folder / "packages")
    try:
        trio.start()
    except LabError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no servers: {error}")
    yield trio
    trio.remove()


def test_all_nodes_restart_with_their_data(trio: Trio, folder: Path) -> None:
    """After a stop of all at once none knows whether it was last: the most advanced one starts."""
    trio.database.query("CREATE DATABASE kept")
    trio.stop()
    again = Trio(folder / "trio", folder / "packages")
    try:
        again.start()
        for node in again.databases:
            assert ("kept",) in node.query("SHOW DATABASES")
        assert again.rabbits_whole()
    finally:
        again.remove()


def test_a_queue_is_declared_with_a_member_on_each_node(trio: Trio, tmp_path: Path) -> None:
    """A worker waits for the absent node. A queue declared without it lacks a member."""
    first, away = trio.rabbits[0], trio.rabbits[2]
    away.kill()
    # It must return as a new node: one that is merely away is a member already.
    away.wipe()
    first.forget(away)
    worker = commands.start_worker("worker-1", tmp_path, environment(trio))
    try:
        wait_until(
            lambda: any("cannot be asked" in str(e.get("error")) for e in commands.events(worker)),
            "the worker says what it waits for", 60,
        )  # fmt: skip
        arguments = {"x-queue-type": "quorum"}
        first.api("PUT", "queues/turnwise/early", {"durable": True, "arguments": arguments})
        away.start()
        commands.wait_event(worker, "worker.consuming")

        def said() -> list[str]:
            queues = first.api("GET", "queues/turnwise")
            return list(cluster.warnings(first.api("GET", "nodes"), queues))

        grow = f"'early' has 2 of 3 members, none at {away.nodename}: rabbitmq-queues grow"
        wait_until(lambda: len(said()) == 1 and grow in said()[0], "it is said", 60)
        first.grow(away)
        wait_until(lambda: not said(), "all have three members", 60)
    finally:
        worker.kill()


def test_faults_of_nodes_lose_and_repeat_nothing(folder: Path) -> None:
    faults = ["node.leader_kill", "node.writer_kill"]
    if links.can_be_cut():
        faults.append("node.leader_partition")
    said = lab(
        "trial", "--nodes", "3", "--seed", "1", "--count", "3", "--rate", "5", "--json",
        "--faults", ",".join(faults), folder=folder, timeout=800,
    ).stdout  # fmt: skip
    assert json.loads(said)["holds"], said


def test_three_nodes_keep_running_and_are_found_again(folder: Path) -> None:
    try:
        lab("up", "--nodes", "3", "--workers", "1", folder=folder)
        status = json.loads(lab("status", "--json", folder=folder).stdout)
        assert status["running"]
        assert status["workers"] == ["worker-1"]
        # Other options do not make it another lab.
        lab("up", "--nodes", "1", folder=folder, code=78)
        lab("down", folder=folder)
    finally:
        lab("down", "--purge", folder=folder)
    assert not (folder / "up").exists()
