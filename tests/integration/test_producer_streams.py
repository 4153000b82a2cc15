"""A producer keeps its promises when its reader goes away or its output finds no room."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from lab.harness.commands import BIN
from lab.harness.process import free_port
from producer.report import STOP_GRACE
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode


def shell(pipeline: Pipeline, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        env={"PATH": f"{BIN}:/usr/bin:/bin", **pipeline.environment(**more)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["2>&-", "2>/dev/full", ">&-", ">/dev/full"])
def test_unwritable_text_for_people_does_not_matter(pipeline: Pipeline, target: str) -> None:
    done = shell(pipeline, f"producer send hello --count 3 --quantum 0 {target}")
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout == ""
    assert pipeline.status()["confirmed"] == 3


@pytest.mark.parametrize("json", ["", "--json"])
def test_a_reader_that_goes_away_stops_it_like_ctrl_c(pipeline: Pipeline, json: str) -> None:
    done = shell(
        pipeline,
        "while echo line; do sleep 0.01; done 2>/dev/null"
        f" | producer send --stdin {json} 2>&1 | head -2; exit ${{PIPESTATUS[1]}}",
    )
    assert done.returncode == ExitCode.OK
    assert len(done.stdout.splitlines()) == 2
    status = pipeline.status()
    assert status["confirmed"] == status["accepted"] > 0


def test_a_reader_that_goes_away_stops_it_while_the_broker_is_away(pipeline: Pipeline) -> None:
    done = shell(
        pipeline,
        "yes | producer send --stdin 2>&1 | head -2; exit ${PIPESTATUS[1]}",
        AMQP_URL=pipeline.servers.rabbitmq.url(pipeline.name, free_port()),
    )
    assert done.returncode == ExitCode.WAITING
    assert pipeline.status()["waiting"] > 0


def test_json_output_without_room_is_a_storage_error(pipeline: Pipeline) -> None:
    begun = time.monotonic()
    done = shell(pipeline, "producer send hello --quantum 10ms --json >/dev/full")
    assert time.monotonic() - begun < STOP_GRACE + 10
    assert done.returncode == ExitCode.STORAGE
    assert done.stderr == "cannot write standard output: No space left on device; stopping\n"
    # Waiting messages take precedence in the exit code.
    away = pipeline.servers.rabbitmq.url(pipeline.name, free_port())
    sender = pipeline.start("away", "producer", "send", "hello", AMQP_URL=away)
    pipeline.wait(lambda: pipeline.status()["waiting"], "one waits")
    sender.signal(signal.SIGINT)
    assert sender.wait(10) == ExitCode.WAITING
    done = shell(pipeline, "producer flush --json >/dev/full", AMQP_URL=away)
    assert done.returncode == ExitCode.WAITING
    done = shell(pipeline, "producer status --json >/dev/full")
    assert done.returncode == ExitCode.STORAGE


def test_closed_standard_input_is_reported(pipeline: Pipeline) -> None:
    for redirection, code, said in (
        ("<&-", ExitCode.USAGE, "standard input: is closed"),
        ("</dev/null", ExitCode.OK, "accepted 0"),
    ):
        done = shell(pipeline, f"producer send --stdin {redirection}")
        assert done.returncode == code
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    # Nothing is to be sent, so the broker is not needed.
    away = pipeline.servers.rabbitmq.url(pipeline.name, free_port())
    assert shell(pipeline, "producer send --stdin </dev/null", AMQP_URL=away).returncode == 0
    status = json.loads(shell(pipeline, "producer status --json").stdout)
    assert status["accepted"] == 0
