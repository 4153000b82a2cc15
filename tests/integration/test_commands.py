"""What users see: help, errors of a line or two with the documented exit code, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.harness.process import free_port
from tests.pipeline import Pipeline, run
from turnwise.errors import ExitCode

SECRET = "correct-horse"


def refused(pipeline: Pipeline, code: int, *command: str, **environment: str) -> str:
    """Run a command that must fail with this code, in a few lines without traceback or password."""
    result = pipeline.run(*command, code=code, **environment)
    assert len(result.stderr.strip().splitlines()) <= 5, result.stderr
    for secret in (SECRET, pipeline.servers.rabbitmq.password, pipeline.servers.database.password):
        assert secret not in result.stderr + result.stdout
    return result.stderr


def test_a_login_refused_by_the_broker_is_reported(pipeline: Pipeline) -> None:
    url = f"amqp://lab:{SECRET}@127.0.0.1:{pipeline.servers.rabbitmq.port}/{pipeline.name}"
    for command in (("producer", "send", "x", "--count", "1"), ("worker", "run")):
        said = refused(pipeline, ExitCode.REFUSED, *command, AMQP_URL=url)
        assert "refuses the user 'lab'" in said
        assert "AMQP_URL" in said
    # Requests accepted before are safe.
    assert pipeline.status()["waiting"] == 1


def test_a_missing_virtual_host_is_reported(pipeline: Pipeline) -> None:
    url = pipeline.servers.rabbitmq.url("nonesuch")
    for command in (("producer", "send", "x", "--count", "1"), ("worker", "run")):
        said = refused(pipeline, ExitCode.CONFIG, *command, AMQP_URL=url)
        assert "nonesuch" in said
        assert "add_vhost" in said


def test_a_forbidden_virtual_host_is_reported(pipeline: Pipeline) -> None:
    pipeline.api("DELETE", f"permissions/{pipeline.name}/lab")
    said = refused(pipeline, ExitCode.CONFIG, "worker", "run")
    assert "set_permissions" in said


def test_a_login_refused_by_the_database_is_reported(pipeline: Pipeline) -> None:
    url = f"mysql://lab:{SECRET}@127.0.0.1:{pipeline.servers.database.port}/{pipeline.name}"
    for command in ("run", "migrate", "audit"):
        said = refused(pipeline, ExitCode.REFUSED, "worker", command, MYSQL_URL=url)
        assert "MYSQL_URL" in said


def test_a_missing_database_is_reported(pipeline: Pipeline) -> None:
    url = pipeline.servers.database.url("nonesuch")
    for command in ("run", "migrate", "audit"):
        said = refused(pipeline, ExitCode.CONFIG, "worker", command, MYSQL_URL=url)
        assert "CREATE DATABASE nonesuch" in said


def test_an_audit_works_before_anything_was_served(pipeline: Pipeline) -> None:
    said = refused(pipeline, ExitCode.CONFIG, "worker", "audit")
    assert "worker migrate" in said


def test_unreachable_servers_end_commands_but_not_services(pipeline: Pipeline) -> None:
    nobody = free_port()
    mysql = pipeline.servers.database.url(pipeline.name, nobody)
    amqp = pipeline.servers.rabbitmq.url(pipeline.name, nobody)
    for command in ("migrate", "audit"):
        said = refused(pipeline, ExitCode.UNAVAILABLE, "worker", command, MYSQL_URL=mysql)
        assert f"127.0.0.1:{nobody}" in said
        assert "refused" in said
    said = refused(pipeline, ExitCode.UNAVAILABLE, "worker", "dead", "list", AMQP_URL=amqp)
    assert f"127.0.0.1:{nobody}" in said
    # Long-running commands wait for the servers, and log it.
    worker = pipeline.start("worker", "worker", "run", MYSQL_URL=mysql)
    pipeline.wait_event(worker, "database.away")
    worker = pipeline.start("other", "worker", "run", AMQP_URL=amqp)
    pipeline.wait_event(worker, "broker.away")


def test_one_reachable_node_of_several_is_enough(pipeline: Pipeline) -> None:
    """Once the queue exists: declaring it takes an answer of every node (test_founding.py)."""
    pipeline.send("x")
    away = pipeline.servers.rabbitmq.url(pipeline.name, free_port())
    for _ in range(4):  # in random order
        url = f"{away},{pipeline.amqp_url},{away}"
        pipeline.run("producer", "send", "x", "--count", "1", AMQP_URL=url)


@pytest.mark.parametrize(
    "command",
    [
        ("producer", "send"),
        ("producer", "send", "x", "--stdin"),
        ("producer", "send", "x", "--quantum", "soon"),
        ("producer", "send", "x", "--count", "0"),
        ("producer", "send", "x", "--client", "my client"),
        ("producer", "send", "x", "--queue", "a queue"),
        ("producer", "send", "--stdin", "--count", "1"),
        ("producer", "send", "x" * 20_000, "--count", "1"),
        ("worker", "run", "--prefetch", "0"),
        ("worker", "run", "--name", "my worker"),
        ("worker", "run", "--nonsense"),
        ("worker", "nonsense"),
    ],
    ids=lambda command: " ".join(command)[:40],
)
def test_wrong_usage_is_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    environment = {
        "AMQP_URL": f"amqp://u:{SECRET}@127.0.0.1:1/",
        "MYSQL_URL": f"mysql://u:{SECRET}@127.0.0.1:1/db",
        "PRODUCER_OUTBOX": str(tmp_path / "outbox.db"),
    }
    result = run(*command, **environment)
    assert result.returncode == ExitCode.USAGE, result.stderr
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stderr


def test_a_wrong_url_is_reported_without_its_password() -> None:
    result = run("worker", "audit", MYSQL_URL=f"postgres://u:{SECRET}@host/db")
    assert result.returncode == ExitCode.USAGE
    assert "must begin with mysql://" in result.stderr
    assert SECRET not in result.stderr


def test_secrets_can_be_read_from_files(pipeline: Pipeline, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(pipeline.mysql_url + "\n")
    pipeline.run("worker", "migrate", MYSQL_URL="", MYSQL_URL_FILE=str(file))
    said = refused(
        pipeline, ExitCode.USAGE, "worker", "migrate", MYSQL_URL="", MYSQL_URL_FILE="/nonesuch"
    )
    assert "cannot read MYSQL_URL_FILE" in said


def test_every_option_can_be_set_by_an_environment_variable(pipeline: Pipeline) -> None:
    pipeline.run("producer", "send", "x", PRODUCER_COUNT="3", PRODUCER_QUANTUM="1ms",
                 TURNWISE_QUEUE="others")  # fmt: skip
    assert pipeline.status()["confirmed"] == 3
    assert pipeline.ready("others") == 3


def test_the_audit_prints_text_for_people_and_json_for_machines(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    client = pipeline.send_counted(5)
    pipeline.wait_served(5)
    said = pipeline.run("worker", "audit").stdout
    assert client in said
    assert "served by worker-1: 5" in said
    table = json.loads(pipeline.run("worker", "audit", "--json").stdout)
    assert table["served_by"] == {"worker-1": 5}
    assert table["holds"]
    assert table["clients"] == [
        {
            "client": client, "served": 5, "removed": 0, "highest": 5, "missing": 0,
            "failed": 0, "given_up": 0, "repeated": 0, "resume_at": 6, "gaps": [],
        }
    ]  # fmt: skip
    pipeline.servers.database.query(
        "DELETE FROM requests WHERE counter IN (1, 3, 4)", name=pipeline.name
    )
    result = pipeline.run("worker", "audit", code=ExitCode.FAILED)
    assert f"missing of {client}: 1, 3-4" in result.stdout
    [account] = json.loads(pipeline.run("worker", "audit", "--json", code=ExitCode.FAILED).stdout)[
        "clients"
    ]
    assert (account["missing"], account["resume_at"]) == (3, 1)


def test_the_producer_prints_json(pipeline: Pipeline) -> None:
    output = pipeline.run("producer", "send", "x", "--count", "2", "--quantum", "0", "--json")
    lines = [json.loads(line) for line in output.stdout.splitlines()]
    assert lines[-1] == {
        "event": "finished", "client": pipeline.client(),
        "accepted": 2, "confirmed": 2, "waiting": 0, "full": False,
    }  # fmt: skip
    assert output.stderr == ""


def test_flushing_without_an_outbox_is_refused(pipeline: Pipeline) -> None:
    for command in ("status", "flush"):
        said = refused(pipeline, ExitCode.STORAGE, "producer", command)
        assert "producer send" in said
    assert not pipeline.outbox.exists()


def test_the_error_that_ends_a_command_is_logged(pipeline: Pipeline) -> None:
    """It is JSON when not on a terminal, like every other line."""
    with pipeline.channel() as channel:
        channel.queue_declare("requests", durable=True, arguments={"x-queue-type": "quorum"})
    result = pipeline.run("worker", "run", code=ExitCode.CONFIG, LOG_FORMAT="auto")
    last = [json.loads(line) for line in result.stderr.splitlines()][-1]
    assert (last["event"], last["level"]) == ("command.failed", "error")
    assert (last["command"], last["exit_code"]) == ("worker run", ExitCode.CONFIG)
    assert "inequivalent arg" in last["error"]
