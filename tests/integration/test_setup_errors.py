"""Setup mistakes: each command reports the mistake, the remedy, and the documented exit code."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from lab.harness.process import free_port
from tests.pipeline import Pipeline, run
from turnwise.errors import ExitCode


def test_an_endless_secret_file_is_refused() -> None:
    for name in ("AMQP_URL", "MYSQL_URL"):
        urls = {"AMQP_URL": "amqp://h/", "MYSQL_URL": "mysql://u@h/db", name: ""}
        result = run("worker", "run", **urls, **{f"{name}_FILE": "/dev/zero"})
        assert result.returncode == ExitCode.USAGE
        assert f"{name}_FILE=/dev/zero has more than 64 KiB" in result.stderr


def test_a_worker_with_a_bad_handler_ends_before_it_connects() -> None:
    nowhere = {
        "AMQP_URL": "amqp://u:p@127.0.0.1:1/",
        "MYSQL_URL": "mysql://u:p@127.0.0.1:1/counter_db",
        "LOG_FORMAT": "text",
    }
    result = run("worker", "run", "--handler", "nonesuch_module:serve", **nowhere)
    assert result.returncode == ExitCode.CONFIG
    [line] = result.stderr.splitlines()
    assert "there is no module 'nonesuch_module'" in line
    for option, value in (("--time-limit", "26m"), ("--time-limit", "0"), ("--grace", "20s")):
        assert run("worker", "run", option, value, **nowhere).returncode == ExitCode.USAGE


def test_a_missing_dead_letter_queue_is_reported(pipeline: Pipeline) -> None:
    for words in (("list",), ("replay", "--all"), ("drop", "--all")):
        result = pipeline.run("worker", "dead", *words, code=ExitCode.CONFIG)
        assert "has no queue 'requests.dead'" in result.stderr
        assert "--queue" in result.stderr


def test_probes_work_on_an_ipv6_address(pipeline: Pipeline) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    port = free_port()
    worker = pipeline.worker("worker-1", "--http", f"[::1]:{port}")
    with urllib.request.urlopen(f"http://[::1]:{port}/healthz", timeout=5) as response:
        assert response.status == 200
    taken = pipeline.run("worker", "run", "--http", f"[::1]:{port}", code=ExitCode.CONFIG)
    assert f"cannot serve HTTP on [::1]:{port}" in taken.stderr
    assert worker.alive()


def test_a_dropped_table_is_never_silently_recreated(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    pipeline.servers.database.query("DROP TABLE requests", name=pipeline.name)
    for command in ("migrate", "run"):
        said = pipeline.run("worker", command, code=ExitCode.CONFIG).stderr
        assert "requests: gone from database" in said
        assert "backup" in said
        assert "migrate" in said
    tables = pipeline.servers.database.query("SHOW TABLES", name=pipeline.name)
    assert ("requests",) not in tables


def test_a_violated_constraint_ends_the_worker_and_is_named(pipeline: Pipeline) -> None:
    """A CHECK that refuses a row will always refuse it, so there is no point in retrying."""
    pipeline.run("worker", "migrate")
    pipeline.servers.database.query(
        "ALTER TABLE requests ADD CONSTRAINT short CHECK (CHAR_LENGTH(message) < 5)",
        name=pipeline.name,
    )
    pipeline.send("fine", "too long")
    result = pipeline.run("worker", "run", code=ExitCode.CONFIG)
    assert "short" in result.stderr
    assert [row.message for row in pipeline.rows()] == ["fine"]
