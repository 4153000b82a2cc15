"""Contenders that publish, and a command's start-up time."""

from __future__ import annotations

import statistics
import time

from lab.bench.contender import Figures, Setting
from lab.bench.stage import Stage
from lab.bench.usage import Fsyncs
from lab.harness.errors import LabError

_STARTS = 10


def textbook_publisher(setting: Setting) -> Figures:
    """Publish one request after the other, each confirmed before the next."""
    count = setting.size(3000)
    return publish(setting, count, 1, "python", "-m", "lab.bench.textbook_publisher", str(count))


def producer(setting: Setting) -> Figures:
    """Send through the outbox, as fast as possible."""
    count = setting.size(60_000)
    command = ("producer", "send", "hello", "--count", str(count), "--quantum", "0", "--json")
    return publish(setting, count, 1000, *command)


def publish(setting: Setting, count: int, most_a_sync: int, *command: str) -> Figures:
    """Run a command that publishes ``count`` requests; measure it, and count the messages.

    The broker must sync at least once per ``most_a_sync`` requests.
    """
    with setting.stage() as stage:
        before = Fsyncs.read(setting.servers)
        finished = stage.run(*command)
        fsyncs = Fsyncs.read(setting.servers) - before
        expect_messages(stage, count)
        if fsyncs.broker * most_a_sync < count:
            raise LabError(f"{count} requests were confirmed with {fsyncs.broker} fsyncs")
        return {
            # From its first line, when it starts, to its last, when all is confirmed.
            "requests_per_s": count / finished.seconds,
            "cpu_per_1000": finished.cpu / count * 1000,
            "fsyncs_per_1000": fsyncs.broker / count * 1000,
            "peak_memory": finished.peak_memory,
        }


def expect_messages(stage: Stage, count: int) -> None:
    """Raise LabError unless the queue holds ``count`` messages."""
    found = stage.ready()
    if found != count:
        raise LabError(f"{count} requests were confirmed, and the queue has {found}")


def start(setting: Setting) -> Figures:
    """Time ``--help``, and Python by itself."""
    with setting.stage() as stage:
        help_ms, python_ms = [], []
        for _ in range(_STARTS):
            help_ms.append(_milliseconds(stage, "producer", "--help"))
            python_ms.append(_milliseconds(stage, "python", "-c", "pass"))
    return {"help_ms": statistics.median(help_ms), "python_ms": statistics.median(python_ms)}


def _milliseconds(stage: Stage, *command: str) -> float:
    begun = time.monotonic()
    stage.run(*command)
    return (time.monotonic() - begun) * 1000
