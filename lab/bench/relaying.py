"""Contenders that publish the rows that applications left in the table outbox."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

from lab.bench.contender import Figures, Setting
from lab.bench.sending import expect_messages
from lab.bench.stage import TIMEOUT, Stage
from lab.bench.usage import Fsyncs, cpu_seconds, peak_memory
from lab.harness import commands
from lab.harness.errors import LabError
from lab.harness.process import Process, wait_until

_PHASES = 17
"""Pauses of different lengths before a probe, so that it falls anywhere into the relay's pauses."""

_LEFT = (
    "SELECT EXISTS (SELECT 1 FROM outbox WHERE id > (SELECT numbered FROM outbox_relay)),"
    " EXISTS (SELECT 1 FROM outbox_batches)"
)


def textbook_relay(setting: Setting) -> Figures:
    """SELECT some rows, publish each and wait for its confirm, DELETE them."""
    count = setting.size(3000)
    with setting.stage() as stage:
        _fill(stage, count)
        finished = stage.run("python", "-m", "lab.bench.textbook_relay")
        expect_messages(stage, count)
        return {
            "rows_per_s": count / finished.seconds,
            "cpu_per_1000": finished.cpu / count * 1000,
        }


def relay(setting: Setting) -> Figures:
    """``producer relay`` with a backlog, without and with deleted rows that cannot be purged."""
    count = setting.size(60_000)
    with setting.stage() as stage, _relay(stage) as process:
        _drain(stage, process, setting.size(2000))  # from here on the relay knows the queue
        begun = Fsyncs.read(setting.servers)
        figures = _drain(stage, process, count)
        fsyncs = Fsyncs.read(setting.servers) - begun
        with _snapshot(stage):
            _drain(stage, process, count)
            held = _drain(stage, process, count)
        expect_messages(stage, 3 * count + setting.size(2000))
        figures["peak_memory"] = peak_memory(process.pid or 0) or 0.0
    # At most 2,000 may be in flight, and each batch has waited for its own sync.
    if fsyncs.broker * 2000 < count:
        raise LabError(f"{count} requests were confirmed with {fsyncs.broker} fsyncs")
    return figures | {f"held_{name}": value for name, value in held.items()}


def relay_latency(setting: Setting) -> Figures:
    """Latency from COMMIT to the worker's row, for one request at a time."""
    taken = []
    with setting.stage() as stage, _relay(stage):
        stage.start_workers(1, 1)
        with stage.servers.database.connect(stage.name) as cursor:
            for number in range(1, setting.size(200) + 1):
                time.sleep(0.01 * (number % _PHASES))
                cursor.execute(
                    "INSERT INTO outbox (queue, message) VALUES ('requests', %s)", (str(number),)
                )
                begun = time.perf_counter()
                while not cursor.execute("SELECT 1 FROM requests WHERE counter = %s", (number,)):
                    pass
                taken.append(time.perf_counter() - begun)
    # With the first one the relay gets to know the queue.
    return {"commit_to_row_ms": statistics.median(taken[1:]) * 1000}


@contextlib.contextmanager
def _relay(stage: Stage) -> Iterator[Process]:
    environment = {"LOG_FORMAT": "json", **stage.environment}
    process = commands.start("relay", stage.folder, ["producer", "relay"], environment)
    try:
        commands.wait_event(process, "relay.working")
        yield process
    finally:
        process.kill()


@contextlib.contextmanager
def _snapshot(stage: Stage) -> Iterator[None]:
    """Keep a transaction open that may still read rows deleted meanwhile, as a backup does."""
    with stage.servers.database.connect(stage.name) as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        yield


def _fill(stage: Stage, count: int) -> None:
    rows = f"SELECT 'requests', 'hello' FROM seq_1_to_{count}"  # noqa: S608 - a number of ours
    stage.query(f"INSERT INTO outbox (queue, message) {rows}")


def _drain(stage: Stage, process: Process, count: int) -> Figures:
    """Give a relay ``count`` rows at once, and measure it until all are confirmed."""
    database = stage.servers.database.runner
    cpu, database_cpu = cpu_seconds(process), cpu_seconds(database)
    _fill(stage, count)
    begun = time.monotonic()
    wait_until(
        lambda: stage.query(_LEFT) == [(0, 0)], "an empty outbox", TIMEOUT, process, interval=0.05
    )
    seconds = time.monotonic() - begun
    return {
        "rows_per_s": count / seconds,
        "cpu_per_1000": (cpu_seconds(process) - cpu) / count * 1000,
        "database_cpu_per_1000": (cpu_seconds(database) - database_cpu) / count * 1000,
    }
