"""Contenders with crowds: a hundred thousand clients instead of one, and fifty workers."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from lab.bench.contender import Contender, Figures, Setting
from lab.bench.serving import WORKERS, figures
from lab.bench.stage import TIMEOUT, Stage
from lab.harness.errors import LabError
from lab.harness.process import wait_until
from turnwise.message import Request

_FIFTY = 50

_SERVED = 10_000
"""The requests of one client that fifty workers serve."""

_IDLE = 20
"""Seconds after which idle workers have counted what they served."""

_QUESTIONS = "SHOW GLOBAL STATUS LIKE 'Questions'"


def clients(prefetch: int, count: int) -> Contender:
    """Return a contender: Turnwise's workers, for one request from each of ``count`` clients."""

    def run(setting: Setting) -> Figures:
        wanted = setting.size(count)
        with setting.stage() as stage:
            stage.start_workers(WORKERS, prefetch)
            stage.freeze()
            _publish(stage, wanted)
            drained = stage.drain({f"client-{n}": 1 for n in range(wanted)})
        return figures(drained, wanted, WORKERS * prefetch)

    return run


def workers(setting: Setting) -> Figures:
    """Count the statements of fifty strict workers that share one client's requests.

    The database counts them, from the release of the workers until they are idle and have counted
    what they served.
    """
    wanted = setting.size(_SERVED)
    with setting.stage() as stage:
        stage.start_workers(_FIFTY, 1)
        stage.freeze()
        stage.send(wanted)
        before = _questions(stage)
        for worker in stage.workers:
            worker.resume()
        # Polls the broker, since a query of the database would count as a statement.
        wait_until(lambda: stage.ready() == 0, "an empty queue", TIMEOUT, interval=1)
        time.sleep(_IDLE)
        asked = _questions(stage) - before
        [(rows,)] = stage.query("SELECT COUNT(*) FROM requests")
        if rows != wanted:
            raise LabError(f"{wanted} requests became {rows} rows")
        if stage.query("SELECT SUM(through) FROM audits WHERE client > ''") != [(wanted,)]:
            raise LabError("not all requests were counted")
    return {"statements": asked / wanted}


def _publish(stage: Stage, count: int) -> None:
    with stage.channel() as channel:
        for n in range(count):
            request = Request(f"client-{n}", 1, f"message {n}", datetime.now(UTC))
            channel.basic_publish("requests", "requests", request.encode(), request.properties())


def _questions(stage: Stage) -> int:
    [(_, count)] = stage.query(_QUESTIONS)
    return int(count)
