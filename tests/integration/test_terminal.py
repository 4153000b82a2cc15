"""A worker on a terminal shows what it serves; elsewhere it logs only events."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import threading

from lab.harness.commands import BIN
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode


def test_a_worker_on_a_terminal_shows_what_it_serves(pipeline: Pipeline) -> None:
    ours, theirs = pty.openpty()
    worker = subprocess.Popen(
        [BIN / "worker", "run", "--name", "worker-1"],
        env={**os.environ, **pipeline.environment(LOG_FORMAT="auto")},
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said: list[str] = []

    def read() -> None:
        # Read until the other side closes it, which raises an error here.
        with os.fdopen(ours, errors="replace") as terminal:
            try:
                said.extend(terminal)
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    client = pipeline.send("first", "second")
    pipeline.wait_served(2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == ExitCode.OK
    reader.join(10)
    served = [line.split(maxsplit=1)[1].strip() for line in said if " served  " in line]
    assert served == [f"served  {client}/1  first", f"served  {client}/2  second"]
    assert any("worker.stopped" in line and "served=2" in line for line in said)


def test_a_worker_without_a_terminal_logs_only_events(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1")
    pipeline.send("first", "second")
    pipeline.wait_served(2)
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) == ExitCode.OK
    assert [each["event"] for each in pipeline.events(worker)] == [
        "worker.started",
        "schema.migrated",
        "queue.made",
        "worker.consuming",
        "worker.stopping",
        "worker.stopped",
    ]
