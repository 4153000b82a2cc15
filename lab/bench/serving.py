"""Contenders that serve a backlog, released all at once."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime
from typing import Any

from lab.bench import stock
from lab.bench.contender import Contender, Figures, Setting
from lab.bench.stage import TIMEOUT, Drained, Stage
from lab.harness.errors import LabError
from lab.harness.hostile import hostile
from lab.harness.process import wait_until
from turnwise.message import Request

WORKERS = 2

_FULL = 1_000_000
"""The rows of a full table."""

_FILL_STEP = 250_000
"""Rows that one statement creates; it takes seconds."""

_FILL = """
    INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)
    SELECT 'filler', seq, CONCAT('message ', seq), moment, moment, 'filler'
    FROM (
        SELECT seq, DATE_ADD('2026-01-01', INTERVAL seq * 1000 MICROSECOND) AS moment
        FROM seq_{first}_to_{last}
    ) AS rows_to_be
"""


def textbook(setting: Setting) -> Figures:
    """The consumer of tutorials."""
    with setting.stage() as stage:
        stage.start_textbook(WORKERS)
        return serve_backlog(stage, setting.size(4000), WORKERS)


def ours(prefetch: int, count: int, workers: int = WORKERS, size: int = 0) -> Contender:
    """Return a contender: Turnwise's workers, for messages of at least ``size`` bytes."""

    def run(setting: Setting) -> Figures:
        with setting.stage() as stage:
            stage.start_workers(workers, prefetch)
            return serve_backlog(stage, setting.size(count), workers * prefetch, size)

    return run


def textbook_handler(setting: Setting) -> Figures:
    """The consumer of tutorials, with some work in the same commit."""
    with setting.stage() as stage:
        _stock(stage)
        stage.start_textbook(WORKERS, "work")
        return _serve_by_handler(stage, setting.size(4000), WORKERS)


def handler(prefetch: int, count: int) -> Contender:
    """Return a contender: Turnwise's workers, whose handler does the same work."""

    def run(setting: Setting) -> Figures:
        with setting.stage() as stage:
            _stock(stage)
            stage.start_workers(WORKERS, prefetch, "--handler", "lab.bench.stock:serve")
            return _serve_by_handler(stage, setting.size(count), WORKERS * prefetch)

    return run


def _stock(stage: Stage) -> None:
    for statement in stock.PREPARE:
        stage.query(statement)


def _serve_by_handler(stage: Stage, count: int, most_a_sync: int) -> Figures:
    found = serve_backlog(stage, count, most_a_sync)
    [(taken,)] = stage.query(stock.TAKEN)
    if taken != count:
        raise LabError(f"{count} requests took {taken} items")
    return found


def full_table(prefetch: int, count: int) -> Contender:
    """Return a contender: Turnwise's workers, on a table with a million rows of another client."""

    def run(setting: Setting) -> Figures:
        with setting.stage() as stage:
            fill(stage, setting.size(_FULL))
            # Flush, so that nothing of the filling is written during the measurement.
            with setting.servers.database.connect(stage.name) as cursor:
                cursor.execute("FLUSH TABLES requests FOR EXPORT")
                cursor.execute("UNLOCK TABLES")
            stage.start_workers(WORKERS, prefetch)
            return serve_backlog(stage, setting.size(count), WORKERS * prefetch)

    return run


def fill(stage: Stage, count: int) -> None:
    """Have the database create rows 1 to ``count`` of another client."""
    for first in range(1, count + 1, _FILL_STEP):
        last = min(first + _FILL_STEP - 1, count)
        stage.query(_FILL.format(first=first, last=last))


def serve_backlog(stage: Stage, count: int, most_a_sync: int, size: int = 0) -> Figures:
    """Fill the queue while the workers are frozen; measure them from their release."""
    stage.freeze()
    client = stage.send(count, size).client
    return figures(stage.drain({client: count}), count, most_a_sync)


def figures(drained: Drained, count: int, most_a_sync: int) -> Figures:
    """Return the figures. Raises LabError if there were too few syncs for all rows.

    A worker has one commit in flight, and a sync serves all that wait for it: at most
    ``most_a_sync`` rows.
    """
    if drained.fsyncs.database * most_a_sync < count:
        raise LabError(f"{count} rows were committed with {drained.fsyncs.database} fsyncs")
    return {
        "rows_per_s": drained.rows_per_s,
        "cpu_per_1000": drained.workers_cpu / count * 1000,
        "fsyncs_per_1000": drained.fsyncs.database / count * 1000,
        "broker_fsyncs_per_1000": drained.fsyncs.broker / count * 1000,
        "peak_memory": drained.peak_memory,
        "workers_cores": drained.workers_cpu / drained.seconds,
        "broker_cores": drained.broker_cpu / drained.seconds,
        "database_cores": drained.database_cpu / drained.seconds,
    }


def among_hostile(prefetch: int, count: int, *, share: int) -> Contender:
    """Return a contender: valid requests, each with ``share`` hostile messages among them."""

    def run(setting: Setting) -> Figures:
        valid = setting.size(count)
        with setting.stage() as stage:
            stage.start_workers(WORKERS, prefetch)
            stage.freeze()
            with stage.channel() as channel:
                _publish(channel, valid, share)
            drained = stage.drain({"valid": valid})
            wait_until(
                lambda: stage.ready("requests.dead") == valid * share,
                "the dead letters",
                TIMEOUT,
            )
            if any(not worker.alive() for worker in stage.workers):
                raise LabError("a message ended a worker")
        return figures(drained, valid, WORKERS * prefetch)

    return run


def _publish(channel: Any, valid: int, share: int) -> None:
    bad = hostile(random.Random(1))
    for counter in range(1, valid + 1):
        request = Request("valid", counter, f"message {counter}", datetime.now(UTC))
        channel.basic_publish("requests", "requests", request.encode(), request.properties())
        for body, properties in itertools.islice(bad, share):
            channel.basic_publish("requests", "requests", body, properties)
