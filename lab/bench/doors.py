"""Contenders that accept requests by HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable

from lab.bench.contender import Figures, Setting
from lab.bench.http_load import CONNECTIONS
from lab.bench.sending import expect_messages
from lab.bench.usage import Fsyncs, cpu_seconds, peak_memory
from lab.harness import commands
from lab.harness.errors import LabError
from lab.harness.process import answers, free_port, wait_until

_WARM_UP = CONNECTIONS
"""Requests before the measurement: each thread of the textbook view connects on its first."""


def textbook_view(setting: Setting) -> Figures:
    """A Flask view that publishes, waits for its confirm, and answers."""
    port = free_port()
    return _put(setting, port, answers, "python", "-m", "lab.bench.textbook_view", str(port))


def door(setting: Setting) -> Figures:
    """``producer serve``."""
    port = free_port()
    return _put(setting, port, _may_publish, "producer", "serve", "--http", str(port))


def _may_publish(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _put(setting: Setting, port: int, ready: Callable[[int], bool], *command: str) -> Figures:
    count = setting.size(15_000)
    with setting.stage() as stage:
        server = commands.start("door", stage.folder, list(command), stage.environment)
        try:
            wait_until(lambda: ready(port), "an HTTP server", 30, server)
            load = ("python", "-m", "lab.bench.http_load", str(port))
            stage.run(*load, str(_WARM_UP))
            broker = setting.servers.rabbitmq.runner
            before = Fsyncs.read(setting.servers)
            cpu, broker_cpu = cpu_seconds(server), cpu_seconds(broker)
            finished = stage.run(*load, str(count))
            fsyncs = Fsyncs.read(setting.servers) - before
            cpu, broker_cpu = cpu_seconds(server) - cpu, cpu_seconds(broker) - broker_cpu
            assert server.pid is not None  # noqa: S101 - it has just answered
            memory = peak_memory(server.pid)
        finally:
            server.kill()
        expect_messages(stage, count + _WARM_UP)
    if fsyncs.broker * CONNECTIONS < count:
        raise LabError(f"{count} requests were confirmed with {fsyncs.broker} fsyncs")
    return {
        "requests_per_s": count / finished.seconds,
        "cpu_per_1000": cpu / count * 1000,
        "broker_cpu_per_1000": broker_cpu / count * 1000,
        "fsyncs_per_1000": fsyncs.broker / count * 1000,
        "peak_memory": memory or 0.0,
        **json.loads(finished.lines[-1][1]),
    }
