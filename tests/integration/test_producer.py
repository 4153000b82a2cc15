"""The producer's promise: accepted messages arrive, whatever dies; no number is used twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess

import pytest

from lab.bench.usage import peak_memory
from lab.harness.commands import BIN
from lab.harness.process import free_port
from producer.publisher import WINDOW
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode


def test_a_client_sends_while_the_broker_is_away_from_the_start(pipeline: Pipeline) -> None:
    port = free_port()
    url = pipeline.servers.rabbitmq.url(pipeline.name, port)
    sender = pipeline.start(
        "producer", "producer", "send", "hello", "--count", "100", "--quantum", "1ms",
        AMQP_URL=url,
    )  # fmt: skip
    pipeline.wait(pipeline.outbox.exists, "an outbox")
    pipeline.wait(lambda: pipeline.status()["accepted"] == 100, "all accepted")
    assert pipeline.status()["waiting"] == 100
    assert "cannot reach RabbitMQ" in sender.log.read_text()
    pipeline.worker("worker-1")
    pipeline.broker_proxy(port)
    assert sender.wait(30) == 0
    pipeline.wait_served(100)
    pipeline.assert_exactly_once(pipeline.client(), 100)
    assert pipeline.status()["waiting"] == 0


def test_a_producer_killed_at_any_moment_loses_nothing_it_accepted(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1", "--prefetch", "200")
    rng = random.Random(1)
    accepted = 0
    for round_ in range(5):
        sender = pipeline.start(
            f"sender-{round_}", "producer", "send", "hello", "--quantum", "0.2ms"
        )
        pipeline.wait(pipeline.outbox.exists, "an outbox")
        enough = accepted + rng.randrange(1, 5000)
        while (accepted := pipeline.status()["accepted"]) < enough:
            assert sender.alive()
        sender.kill()
    pipeline.run("producer", "flush")
    status = pipeline.status()
    assert status["waiting"] == 0
    pipeline.wait_served(status["accepted"])
    pipeline.assert_exactly_once(status["client"], status["accepted"])


def test_ctrl_c_publishes_what_it_can_and_reports_what_waits(pipeline: Pipeline) -> None:
    sender = pipeline.start("there", "producer", "send", "hello", "--quantum", "1ms")
    pipeline.wait(
        lambda: pipeline.outbox.exists() and pipeline.status()["confirmed"] > 0, "it sends"
    )
    sender.signal(signal.SIGINT)
    assert sender.wait(10) == ExitCode.OK
    assert pipeline.status()["waiting"] == 0

    away = pipeline.servers.rabbitmq.url(pipeline.name, free_port())
    sender = pipeline.start(
        "away", "producer", "send", "hello", "--quantum", "1ms", AMQP_URL=away
    )  # fmt: skip
    pipeline.wait(lambda: pipeline.status()["waiting"] > 10, "some wait")
    sender.signal(signal.SIGINT)
    assert sender.wait(10) == ExitCode.WAITING
    waiting = pipeline.status()["waiting"]
    assert f"waiting {waiting:,}" in sender.log.read_text()


def test_a_second_producer_on_an_outbox_is_refused(pipeline: Pipeline) -> None:
    first = pipeline.start("first", "producer", "send", "hello")
    pipeline.wait(lambda: "accepted" in first.log.read_text(), "it sends")
    second = pipeline.run("producer", "send", "hello", code=ExitCode.STORAGE)
    assert f"in use by another producer (process {first.pid})" in second.stderr


def test_a_full_disk_refuses_messages_and_keeps_the_accepted_ones(pipeline: Pipeline) -> None:
    # No file may grow beyond this, which to the program looks like a full disk.
    full = subprocess.run(
        [
            "/usr/bin/prlimit",
            "--fsize=400000",
            BIN / "producer",
            "send",
            "m" * 100,
            "--quantum",
            "0",
        ],
        env={**os.environ, **pipeline.environment(), "AMQP_URL": "amqp://127.0.0.1:1/"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert full.returncode == ExitCode.STORAGE, full.stderr
    assert "cannot write the outbox" in full.stderr
    assert "Traceback" not in full.stderr
    status = pipeline.status()
    assert status["accepted"] > 0
    pipeline.worker("worker-1", "--prefetch", "200")
    pipeline.run("producer", "flush")
    pipeline.wait_served(status["accepted"])
    pipeline.assert_exactly_once(status["client"], status["accepted"])


def test_reading_lines_takes_constant_memory(pipeline: Pipeline) -> None:
    def peak(lines: int) -> float:
        """Return the peak in MiB that it reports; rusage would include its parent's memory."""
        numbers = pipeline.folder / "numbers"
        numbers.write_text("".join(f"{i}\n" for i in range(lines)))
        environment = {**os.environ, **pipeline.environment()}
        with (
            numbers.open() as source,
            subprocess.Popen(
                [BIN / "producer", "send", "--stdin", "--json"],
                stdin=source,
                stdout=subprocess.PIPE,
                env=environment,
            ) as sender,
        ):
            most = max(peak_memory(sender.pid) or 0 for _ in sender.stdout or ())
        assert sender.returncode == 0
        return most

    few, many = peak(5_000), peak(150_000)
    assert 0 < many < few + 5
    assert pipeline.status()["confirmed"] == 155_000


def test_lines_are_sent_unchanged(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    lines = ["", "plain", "ünïcödé 😀", "<b>&amp;", "tab\there", "m" * 16 * 1024, "no end"]
    pipeline.run("producer", "send", "--stdin", stdin="\n".join(lines))
    pipeline.wait_served(len(lines))
    assert [row.message for row in sorted(pipeline.rows(), key=lambda r: r.counter)] == lines


@pytest.mark.parametrize(
    ("line", "said"), [(b"m" * 20_000, "more than 16384 bytes"), (b"\xff", "not UTF-8")]
)
def test_an_invalid_line_ends_the_reading(pipeline: Pipeline, line: bytes, said: str) -> None:
    result = pipeline.run(
        "producer", "send", "--stdin", stdin=b"one\ntwo\n" + line + b"\nfour\n",
        code=ExitCode.USAGE,
    )  # fmt: skip
    assert "line 3" in result.stderr
    assert said in result.stderr
    assert pipeline.status()["confirmed"] == 2


def test_confirms_are_pipelined(pipeline: Pipeline) -> None:
    proxy, through_proxy = pipeline.broker_proxy()
    pipeline.send("first")  # declares the queue
    sender = pipeline.start(
        "producer", "producer", "send", "hello", "--count", "3000", "--quantum", "0",
        AMQP_URL=through_proxy,
    )  # fmt: skip
    pipeline.wait(lambda: proxy.down.passed > 1000, "it is connected")
    proxy.hold(proxy.down)  # no confirm arrives
    pipeline.wait(lambda: pipeline.ready() > WINDOW // 2, "many published, unconfirmed")
    proxy.release(proxy.down)
    assert sender.wait(30) == 0


def test_requests_wait_for_a_queue_that_is_missing(pipeline: Pipeline) -> None:
    """Unroutable publishes are confirmed; only ``mandatory`` reveals them."""
    sender = pipeline.start("producer", "producer", "send", "hello", "--quantum", "20ms")
    pipeline.wait(
        lambda: pipeline.outbox.exists() and pipeline.status()["confirmed"] > 0, "it sends"
    )
    # Delete only the binding: deleting the queue would lose requests.
    pipeline.api("DELETE", f"bindings/{pipeline.name}/e/requests/q/requests/requests")
    pipeline.wait(lambda: "did not accept" in sender.log.read_text(), "it notices")
    sender.signal(signal.SIGINT)
    assert sender.wait(15) in {ExitCode.OK, ExitCode.WAITING}
    pipeline.run("producer", "flush")
    status = pipeline.status()
    pipeline.worker("worker-1")
    pipeline.wait_served(status["accepted"])
    pipeline.assert_exactly_once(status["client"], status["accepted"])
