"""A producer whose outbox is full waits, logs it and resumes; nothing is lost or skipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from lab.harness.commands import BIN
from lab.harness.process import free_port
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode

SMALL = {"PRODUCER_OUTBOX_LIMIT": "1M"}
MESSAGE = "m" * 10_000  # about a hundred of them fill it


def away(pipeline: Pipeline, port: int) -> dict[str, str]:
    return {"AMQP_URL": pipeline.servers.rabbitmq.url(pipeline.name, port), **SMALL}


def test_a_count_is_sent_in_full_through_a_small_outbox(pipeline: Pipeline) -> None:
    port = free_port()
    sender = pipeline.start(
        "producer", "producer", "send", MESSAGE, "--count", "1000", "--quantum", "0",
        **away(pipeline, port),
    )  # fmt: skip
    pipeline.wait(lambda: "the outbox is full" in sender.log.read_text(), "it reports that")
    status = pipeline.status()
    assert 0 < status["accepted"] < 1000
    assert status == pipeline.status()  # nothing further is accepted
    pipeline.broker_proxy(port)
    assert sender.wait(60) == ExitCode.OK
    assert pipeline.status()["confirmed"] == 1000
    assert pipeline.ready() == 1000


def test_lines_are_not_read_while_the_outbox_is_full(pipeline: Pipeline) -> None:
    port = free_port()
    lines = pipeline.folder / "lines"
    lines.write_text("".join(f"{i:04} {MESSAGE}\n" for i in range(1000)))
    with lines.open() as source:
        environment = {**os.environ, **pipeline.environment(**away(pipeline, port))}
        sender = subprocess.Popen(
            [BIN / "producer", "send", "--stdin"],
            stdin=source, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert sender.stderr is not None
        assert any("the outbox is full" in line for line in sender.stderr)
        accepted = pipeline.status()["accepted"]
        read = os.lseek(source.fileno(), 0, os.SEEK_CUR)
    assert accepted < 200
    assert read < lines.stat().st_size / 4
    pipeline.broker_proxy(port)
    pipeline.worker("worker-1", "--prefetch", "100")
    sender.communicate(timeout=60)
    assert sender.returncode == ExitCode.OK
    rows = pipeline.wait_served(1000)
    pipeline.assert_exactly_once(pipeline.client(), 1000)
    by_counter = sorted(rows, key=lambda row: row.counter)
    assert [row.message[:4] for row in by_counter] == [f"{i:04}" for i in range(1000)]


@pytest.mark.parametrize("how", [("--stdin",), (MESSAGE, "--quantum", "0")])
def test_messages_not_accepted_at_the_limit_are_reported_at_the_end(
    pipeline: Pipeline, how: tuple[str, ...]
) -> None:
    lines = pipeline.folder / "lines"
    lines.write_text(f"{MESSAGE}\n" * 1000)
    with lines.open() as source, subprocess.Popen(
        [BIN / "producer", "send", "--json", *how],
        stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **pipeline.environment(**away(pipeline, free_port()))},
    ) as sender:  # fmt: skip
        assert sender.stdout is not None
        assert any(json.loads(line).get("full") for line in sender.stdout)
        sender.send_signal(signal.SIGINT)
        _, said = sender.communicate(timeout=20)
    assert sender.returncode == ExitCode.STORAGE
    assert "is full" in said
    assert "--outbox-limit" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("size", ["10K", "1023K", "1.5G", "many", "-1"])
def test_an_invalid_limit_is_refused(tmp_path: Path, size: str) -> None:
    done = subprocess.run(
        [BIN / "producer", "send", "x", "--outbox-limit", size],
        env={**os.environ, "AMQP_URL": "amqp://127.0.0.1:1/", "PRODUCER_OUTBOX": f"{tmp_path}/o"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    assert "--outbox-limit" in done.stderr
