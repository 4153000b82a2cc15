"""Contenders that take minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path

from lab.bench.contender import Figures, Setting
from lab.bench.sending import expect_messages
from lab.bench.serving import WORKERS, fill
from lab.bench.stage import TIMEOUT, Stage
from lab.harness import commands
from lab.harness.errors import LabError
from lab.harness.process import Process, free_port, wait_until

_QUEUED = 1_000_000
_WAITING = 500_000
_PREFETCH = 500

_ROWS = 10_000_000

_SERVED_AT = "SELECT served_at FROM requests ORDER BY served_at LIMIT 1 OFFSET %s"


def backlog(setting: Setting) -> Figures:
    """Queue a million requests, leave half a million in an outbox, then serve all."""
    queued, waiting = setting.size(_QUEUED), setting.size(_WAITING)
    with setting.stage() as stage:
        sent = stage.send(queued)
        expect_messages(stage, queued)
        other = str(stage.folder / "waiting.db")
        _accept(stage, waiting, other)
        flushed = stage.run("producer", "flush", "--json", PRODUCER_OUTBOX=other)
        expect_messages(stage, queued + waiting)
        stage.start_workers(WORKERS, _PREFETCH)
        drained = stage.drain({sent.client: queued, flushed.client: waiting})
        rates = _rates(stage, queued + waiting)
    return {
        "send_peak_memory": sent.peak_memory,
        "send_per_s": queued / sent.seconds,
        "flush_peak_memory": flushed.peak_memory,
        "worker_peak_memory": drained.peak_memory,
        "rows_per_s": drained.rows_per_s,
        "first_tenth_per_s": rates[0],
        "last_tenth_per_s": rates[1],
    }


def _accept(stage: Stage, count: int, outbox: str) -> None:
    """Accept requests into an outbox while no broker answers."""
    lines = stage.folder / "waiting"
    lines.write_text("hello\n" * count)
    nobody = stage.servers.rabbitmq.url(stage.name, free_port())
    environment = {**stage.environment, "PRODUCER_OUTBOX": outbox}
    command: list[str | Path] = [commands.BIN / "producer", "send", "--stdin"]
    process = Process("accepting", stage.folder, command, {**environment, "AMQP_URL": nobody})
    with lines.open() as source:
        process.stdin = source.fileno()
        process.start()
    status = ["producer", "status", "--json"]
    wait_until(Path(outbox).exists, "an outbox", TIMEOUT, process)
    wait_until(
        lambda: commands.run(status, environment)["accepted"] == count,
        f"{count} requests accepted",
        TIMEOUT,
        process,
        interval=1,
    )
    process.stop(TIMEOUT)


def _rates(stage: Stage, count: int) -> tuple[float, float]:
    """Return the rows per second of the first tenth and of the last."""
    tenth = count // 10
    places = (0, tenth, count - 1 - tenth, count - 1)
    moments = [stage.query(_SERVED_AT, place)[0][0] for place in places]
    return (
        tenth / (moments[1] - moments[0]).total_seconds(),
        tenth / (moments[3] - moments[2]).total_seconds(),
    )


def audit(setting: Setting) -> Figures:
    """Time ``worker audit`` of ten million rows that are counted as workers count them."""
    rows = setting.size(_ROWS)
    with setting.stage() as stage:
        fill(stage, rows)
        stage.run("worker", "audit", "--recount", "--json")
        begun = time.monotonic()
        told = stage.run("worker", "audit", "--json")
        seconds = time.monotonic() - begun
    [account] = json.loads(told.lines[-1][1])["clients"]
    if account["served"] != rows:
        raise LabError(f"{rows} rows were audited as {account}")
    return {"seconds": seconds}
