"""Latency from publish to commit on an idle system, for one request at a time."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from lab.bench import native
from lab.bench.contender import Figures, LeftOut, Setting
from lab.bench.serving import WORKERS
from lab.bench.stage import Stage
from turnwise.message import Request

_PAUSE = 0.003
"""Seconds until everything is idle again."""

_SEEN = "SELECT 1 FROM requests WHERE client = 'latency' AND counter = %s"


def latency(setting: Setting) -> Figures:
    """Probe each contender in turn, many times. All run at once, and all but one are idle."""
    with contextlib.ExitStack() as stack:
        names = ["textbook", "strict", "drain"]
        with contextlib.suppress(LeftOut):
            program = native.build()
            names.append("native")
        stages = {name: stack.enter_context(setting.stage(f"-{name}")) for name in names}
        stages["textbook"].start_textbook(WORKERS)
        stages["strict"].start_workers(WORKERS, 1)
        stages["drain"].start_workers(WORKERS, 500)
        if "native" in stages:
            stages["native"].start_native(WORKERS, program, 1)
        probes = {name: stack.enter_context(_probe(stage)) for name, stage in stages.items()}
        times: dict[str, list[float]] = {name: [] for name in stages}
        for counter in range(1, setting.size(500) + 1):
            for name, probe in probes.items():
                times[name].append(probe(counter))
    return {f"{name}_ms": statistics.median(taken) * 1000 for name, taken in times.items()}


@contextlib.contextmanager
def _probe(stage: Stage) -> Iterator[Callable[[int], float]]:
    """Yield a function that publishes a request and returns the seconds until its row shows."""
    with stage.channel() as channel, stage.servers.database.connect(stage.name) as cursor:

        def probe(counter: int) -> float:
            request = Request("latency", counter, "hello", datetime.now(UTC))
            body, properties = request.encode(), request.properties()
            time.sleep(_PAUSE)
            begun = time.perf_counter()
            channel.basic_publish("requests", "requests", body, properties)
            while not cursor.execute(_SEEN, (counter,)):
                pass
            return time.perf_counter() - begun

        yield probe
