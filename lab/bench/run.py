"""A bench, from its first round to its last."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from lab.bench.contender import Figures, LeftOut, Setting
from lab.bench.lines import CONTENDERS, LINES, ONCE, Line, Told, contenders, tell
from lab.harness.servers import Servers


@dataclass(frozen=True, slots=True)
class Result:
    """When and where it was measured, the figures of each round, and the lines of the report."""

    machine: dict[str, str]
    rounds: list[dict[str, Figures]] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


def bench(
    servers: Servers,
    items: Sequence[str],
    rounds: int,
    scale: float,
    progress: Callable[[str], None],
) -> Result:
    """Measure the contenders that these items' lines need, one after the other in each round."""
    lines: list[Line] = [line for line in LINES if line.item in items]
    result = Result(_machine(servers))
    for number in range(1, rounds + 1):
        measured: dict[str, Figures] = {}
        for name in contenders(lines):
            if name in ONCE and number > 1:
                continue
            begun = time.monotonic()
            setting = Setting(servers, f"bench-{number}-{list(CONTENDERS).index(name)}", scale)
            try:
                measured[name] = CONTENDERS[name](setting)
            except LeftOut as reason:
                progress(f"round {number} of {rounds}, {name}: left out: {reason}")
                continue
            figures = ", ".join(f"{key} {value:,.4g}" for key, value in measured[name].items())
            seconds = time.monotonic() - begun
            progress(f"round {number} of {rounds}, {seconds:3.0f} s, {name}: {figures}")
        result.rounds.append(measured)
    result.told.extend(each for line in lines if (each := tell(line, result.rounds)))
    return result


def _machine(servers: Servers) -> dict[str, str]:
    models = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processors": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "load": f"{os.getloadavg()[0]:.1f} at the begin",
        "RabbitMQ": servers.rabbitmq.version(),
        "database": servers.database.version(),
        "Python": platform.python_version(),
        "pika": version("pika"),
        "PyMySQL": version("pymysql"),
    }
