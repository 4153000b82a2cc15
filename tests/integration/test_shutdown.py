"""SIGTERM: the longest a worker takes to stop, whatever its servers do at that moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

import pytest

from lab.harness.process import Process, wait_until
from lab.harness.servers import Servers
from tests.pipeline import Pipeline
from turnwise.broker import CLOSE_TIMEOUT
from turnwise.database import TIMEOUT
from worker.replica import SHUTDOWN_BUDGET


def stop(*workers: Process) -> list[float]:
    """Stop all workers, which must exit with code 0; return the seconds that each took."""
    asked = time.monotonic()
    for worker in workers:
        worker.signal(signal.SIGTERM)
    took: dict[str, float] = {}

    def ended() -> bool:
        for worker in workers:
            if worker.name not in took and not worker.alive():
                took[worker.name] = time.monotonic() - asked
        return len(took) == len(workers)

    wait_until(ended, "all workers end", SHUTDOWN_BUDGET + 30)
    assert [worker.wait(1) for worker in workers] == [0] * len(workers)
    return [took[worker.name] for worker in workers]


@pytest.mark.parametrize(
    ("frozen", "at_most"),
    [
        # The answers to cancel and to close never arrive.
        (lambda servers: [servers.rabbitmq], TIMEOUT + 2 * CLOSE_TIMEOUT + 1),
        (lambda servers: [servers.database], TIMEOUT + 1),
        (lambda servers: [servers.rabbitmq, servers.database], TIMEOUT + 2 * CLOSE_TIMEOUT + 1),
    ],
    ids=["broker", "database", "both"],
)
def test_idle_and_busy_workers_stop_in_time_while_servers_are_frozen(
    pipeline: Pipeline, frozen: Callable[[Servers], Sequence[object]], at_most: float
) -> None:
    idle = pipeline.worker("idle", "--queue", "others")
    strict = pipeline.worker("strict")
    draining = pipeline.worker("draining", "--prefetch", "200")
    servers = frozen(pipeline.servers)
    with pipeline.servers.database.connect(pipeline.name) as table:
        table.execute("LOCK TABLES requests WRITE")
        client = pipeline.send_counted(100)
        pipeline.wait_writing(workers=2)
        for server in servers:
            server.runner.pause()  # type: ignore[attr-defined]
        try:
            took = stop(idle, strict, draining)
        finally:
            for server in servers:
                server.runner.resume()  # type: ignore[attr-defined]
    print(f"idle, strict, draining: {', '.join(f'{seconds:.1f} s' for seconds in took)}")
    assert max(took) < at_most < SHUTDOWN_BUDGET
    assert took[0] < 2 * CLOSE_TIMEOUT + 1
    # The next workers continue with the requests that the stopped ones held.
    pipeline.worker("next", "--prefetch", "200")
    pipeline.wait_served(100)
    pipeline.assert_exactly_once(client, 100)


def test_a_worker_that_is_starting_stops_in_time_while_servers_are_frozen(
    pipeline: Pipeline,
) -> None:
    for server in (pipeline.servers.rabbitmq, pipeline.servers.database):
        server.runner.pause()
        try:
            worker = pipeline.start(server.runner.identity(), "worker", "run")
            pipeline.wait_event(worker, "worker.started")
            time.sleep(1)  # in the middle of its wait
            [seconds] = stop(worker)
        finally:
            server.runner.resume()
        assert seconds < TIMEOUT + CLOSE_TIMEOUT + 1


def test_the_worst_case_stays_within_the_shutdown_budget(pipeline: Pipeline) -> None:
    """Each batch is stored at the last moment, and then the broker hangs."""
    broker, amqp_url = pipeline.broker_proxy()
    database, mysql_url = pipeline.database_proxy()
    worker = pipeline.worker("slow", "--prefetch", "200", AMQP_URL=amqp_url, MYSQL_URL=mysql_url)
    large = "x" * 16_000
    # Let the worker do its one-time lookups first, so that a write is one round trip.
    client = pipeline.send("early")
    pipeline.wait_served(1)
    # The first keeps the worker busy while the others arrive. Those take three statements.
    database.down.latency = TIMEOUT - 1
    pipeline.send("first", *[large] * 60)
    pipeline.wait_served(2)
    pipeline.wait(lambda: pipeline.ready() == 0, "that all are held")
    pipeline.wait_served(3, timeout=2 * TIMEOUT)
    asked = time.monotonic()
    worker.signal(signal.SIGTERM)
    first = pipeline.served()
    pipeline.wait_served(first + 1, timeout=2 * TIMEOUT)
    broker.hold(broker.up, broker.down)
    worker.wait(SHUTDOWN_BUDGET + 30)
    seconds = time.monotonic() - asked
    print(f"the worst case: {seconds:.1f} s of {SHUTDOWN_BUDGET:.0f}")
    assert 2 * (TIMEOUT - 1) < seconds < SHUTDOWN_BUDGET
    database.down.latency = 0
    broker.release(broker.up, broker.down)
    pipeline.worker("next", "--prefetch", "200")
    pipeline.wait_served(62)
    pipeline.assert_exactly_once(client, 62)


def test_the_longest_shutdown_fits_the_usual_grace_period() -> None:
    assert SHUTDOWN_BUDGET < 30
