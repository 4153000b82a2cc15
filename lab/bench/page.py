"""The page's cost: how fast it answers over many rows, and how much it slows workers down."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http import HTTPStatus

from lab.bench.contender import Figures, Setting
from lab.bench.serving import WORKERS, fill
from lab.bench.stage import TIMEOUT, Stage
from lab.harness import commands
from lab.harness.errors import LabError
from lab.harness.process import Process, free_port, wait_until

_ROWS = 10_000_000
_ANSWERS = 1000
_LOOKED_UP = 200
_FAILURES = 1_000_000
_SEARCHED = 20

_SEARCHES = {
    "a_clients": "/requests?client=filler&before=filler/5000000",
    "latest": "/requests",
    "text": "/requests?client=filler&text=nowhere",
    "replica_since": "/requests?since=2000-01-01&replica=nobody",
    "failures": "/failures?state=given-up",
    "failures_of_a_reason": "/failures?state=given-up&reason=timeout",
}
"""One search of each kind: those that follow an index, and those that find nothing along it."""

_FAIL = """
    INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error, traceback,
                          reason, failed_at, failed_by, due_at)
    SELECT 'failing', counter, message, sent_at, 1, 0, 'E: it', NULL, 'failed',
           DATE_ADD('2026-01-01', INTERVAL counter SECOND), 'worker-1', NULL
    FROM requests WHERE client = 'filler' AND counter BETWEEN %s AND %s
"""
_FAIL_STEP = 100_000

_PAUSE = 0.05
"""Seconds between two lookups: the page looks up at most a hundred requests in three seconds."""

_ASKING = 0.4
"""Seconds between two requests of an open page, as in its script."""

_COUNTED = 2.0
"""Seconds of each count of statements."""

_COUNTS = (1, 100, 100, 1, 1, 100, 100, 1, 1, 100)
"""Open pages, in alternation: an audit of a million failures may fall into one of the counts."""

_PAIRS = 30
_HALF = 2.0
"""Seconds with the page open, and as many without, of each pair."""

_MORE_THAN_SERVED = 2500
"""Requests that are queued for each second of serving: more than can be served."""

_SERVED = "SELECT COUNT(*) FROM requests WHERE served_at >= %s AND served_at < %s"


def page(setting: Setting) -> Figures:
    """Query the page of a table with ten million rows, with one page open and with a hundred."""
    rows = setting.size(_ROWS)
    figures: Figures = {}
    with setting.stage() as stage, _dashboard(stage) as (_, port):
        fill(stage, rows)
        stage.run("worker", "audit", "--recount", "--json")
        stage.start_workers(WORKERS, 1)
        asked = {
            "state": ["/api/state"] * setting.size(_ANSWERS),
            "request": [
                f"/api/requests/filler/{number}"
                for number in random.Random(1).sample(range(1, rows + 1), setting.size(_LOOKED_UP))
            ],
        }
        for name, paths in asked.items():
            times = _times(port, paths, _PAUSE if name == "request" else 0)
            figures[f"{name}_ms"] = statistics.median(times) * 1000
            figures[f"{name}_p99_ms"] = times[len(times) * 99 // 100] * 1000
        _fail(stage, setting.size(_FAILURES))
        for name, path in _SEARCHES.items():
            times = _times(port, [path] * setting.size(_SEARCHED), 0)
            figures[f"{name}_ms"] = statistics.median(times) * 1000
        counts: dict[int, list[float]] = {}
        for pages in _COUNTS:
            with _open_pages(port, pages):
                time.sleep(2 * _ASKING)
                before, begun = _statements(stage), time.monotonic()
                time.sleep(_COUNTED)
                seconds = time.monotonic() - begun
                counts.setdefault(pages, []).append((_statements(stage) - before) / seconds)
        for pages, rates in counts.items():
            figures[f"statements_per_s_{pages}"] = statistics.median(rates)
    return figures


def watched(setting: Setting) -> Figures:
    """Measure strict workers' rate with the page open, and with its process frozen, alternately."""
    pairs = setting.size(_PAIRS)
    with (
        setting.stage() as stage,
        _dashboard(stage) as (dashboard, port),
        _open_pages(port, 1),
    ):
        stage.start_workers(WORKERS, 1)
        stage.freeze()
        stage.send(int(pairs * 2 * _HALF * _MORE_THAN_SERVED))
        for worker in stage.workers:
            worker.resume()
        time.sleep(_HALF)
        # Open, frozen; frozen, open; ...: a drift affects both.
        order = [number % 4 in {0, 3} for number in range(2 * pairs)]
        moments = [_now(stage)]
        for is_open in order:
            (dashboard.resume if is_open else dashboard.pause)()
            time.sleep(_HALF)
            moments.append(_now(stage))
        dashboard.resume()
        rates: dict[bool, list[float]] = {True: [], False: []}
        for is_open, (begun, ended) in zip(order, itertools.pairwise(moments), strict=True):
            [(served,)] = stage.query(_SERVED, begun, ended)
            rates[is_open].append(served / (ended - begun).total_seconds())
    return {
        "open_rows_per_s": statistics.median(rates[True]),
        "frozen_rows_per_s": statistics.median(rates[False]),
    }


def _fail(stage: Stage, count: int) -> None:
    """Create as many failures as there are rows up to this one."""
    for first in range(1, count + 1, _FAIL_STEP):
        stage.query(_FAIL, first, min(first + _FAIL_STEP - 1, count))


@contextlib.contextmanager
def _dashboard(stage: Stage) -> Iterator[tuple[Process, int]]:
    """Yield the page's process and its port."""
    port = free_port()
    environment = {**stage.environment, "LOG_FORMAT": "json"}
    process = commands.start_dashboard(stage.folder, environment, port)
    try:
        wait_until(lambda: _answers(port), "the page", TIMEOUT, process)
        yield process, port
    finally:
        process.kill()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return _ask(http.client.HTTPConnection("127.0.0.1", port), "/readyz")[0] == HTTPStatus.OK
    return False


def _ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def _times(port: int, paths: Sequence[str], pause: float) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times = []
    for path in paths:
        time.sleep(pause)
        begun = time.perf_counter()
        status, body = _ask(connection, path)
        times.append(time.perf_counter() - begun)
        if status != HTTPStatus.OK:
            raise LabError(f"{path} was answered with {status}: {body[:200]!r}")
    return sorted(times)


@contextlib.contextmanager
def _open_pages(port: int, count: int) -> Iterator[None]:
    """Send the requests of ``count`` open pages."""
    closed = threading.Event()

    def look() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        sequence = ""
        while not closed.wait(_ASKING):
            sequence = json.loads(_ask(connection, f"/api/state?after={sequence}")[1])["sequence"]

    with ThreadPoolExecutor(count) as pool:
        looking = [pool.submit(look) for _ in range(count)]
        try:
            yield
        finally:
            closed.set()
    for each in looking:
        each.result()


def _now(stage: Stage) -> datetime:
    [(now,)] = stage.query("SELECT UTC_TIMESTAMP(6)")
    return now  # type: ignore[no-any-return]


def _statements(stage: Stage) -> int:
    [(_, count)] = stage.query("SHOW GLOBAL STATUS LIKE 'Questions'")
    return int(count)
