"""The account: audits of many clients and of many gaps, and serving once rows were removed."""

from __future__ import annotations

import time

from lab.bench.contender import Contender, Figures, Setting
from lab.bench.serving import WORKERS, fill, serve_backlog
from lab.bench.stage import Stage
from lab.harness.errors import LabError
from turnwise.errors import ExitCode

_CLIENTS = 100_000
_EACH = 10
"""Requests of each client."""

_ROWS = 1_000_000
_GAPS = 10_000

_STEP = 20_000
"""Clients whose rows one statement creates; it takes seconds."""

_FILL_CLIENTS = """
    INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)
    SELECT CONCAT('client-', LPAD(clients.seq, 8, '0')), counters.seq, 'message',
        '2026-01-01', DATE_ADD('2026-01-01', INTERVAL 1000 * clients.seq MICROSECOND), 'filler'
    FROM seq_{first}_to_{last} AS clients, seq_1_to_{each} AS counters
"""
_REMOVED = 1000
"""Rows that a prune removes. It leaves a line and a new epoch."""


_ANY = (ExitCode.OK, ExitCode.FAILED)
"""An audit fails if anything is missing."""


def clients(setting: Setting) -> Figures:
    """Time an audit of many clients: with none of them counted, then with all."""
    count = setting.size(_CLIENTS)
    with setting.stage() as stage:
        for first in range(0, count, _STEP):
            last = min(first + _STEP, count) - 1
            stage.query(_FILL_CLIENTS.format(first=first, last=last, each=_EACH))
        uncounted, _ = _audited(stage, count * _EACH)
        stage.run("worker", "audit", "--recount")
        seconds, memory = _audited(stage, count * _EACH)
    return {"seconds": seconds, "peak_memory": memory, "uncounted_seconds": uncounted}


def gaps(setting: Setting) -> Figures:
    """Time an audit of one client's rows: without a gap, with one, and with many."""
    rows, many = setting.size(_ROWS), setting.size(_GAPS)
    with setting.stage() as stage:
        fill(stage, rows)
        found = {}
        for name, count in (("no", 0), ("one", 1), ("many", many)):
            every = rows // (count + 1)
            gone = [(number + 1) * every for number in range(count)]
            if gone:
                stage.query("DELETE FROM requests WHERE client = 'filler' AND counter IN %s", gone)
            [(left,)] = stage.query("SELECT COUNT(*) FROM requests")
            stage.run("worker", "audit", "--recount", good=_ANY)
            found[f"{name}_seconds"], _ = _audited(stage, left)
    return found


def pruned(prefetch: int, count: int) -> Contender:
    """Return a contender: Turnwise's workers, after a prune has drawn a line."""

    def run(setting: Setting) -> Figures:
        with setting.stage() as stage:
            fill(stage, _REMOVED)
            stage.run("worker", "audit", "--recount")
            stage.run("worker", "prune", "--older-than", "1d")
            if stage.query("SELECT COUNT(*) FROM requests") != [(0,)]:
                raise LabError("nothing was removed")
            stage.start_workers(WORKERS, prefetch)
            return serve_backlog(stage, setting.size(count), WORKERS * prefetch)

    return run


def _audited(stage: Stage, rows: int) -> tuple[float, float]:
    """Audit ``rows`` rows; return the seconds and the MiB that it takes."""
    begun = time.monotonic()
    told = stage.run("worker", "audit", good=_ANY)
    seconds = time.monotonic() - begun
    shown = [int(line.rsplit(": ", 1)[1].replace(",", "")) for _, line in told.lines
             if line.startswith("served by ")]  # fmt: skip
    if sum(shown) != rows:
        raise LabError(f"{rows} rows were audited as {shown}")
    return seconds, told.peak_memory
