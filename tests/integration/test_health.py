"""Probes and metrics while servers come and go."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

from lab.harness.process import free_port
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(port: int, name: str) -> float:
    lines = get(port, "/metrics")[1].splitlines()
    [value] = [line.split()[1] for line in lines if line.split()[0] == name]
    return float(value)


def test_a_worker_stays_alive_during_outages_and_is_ready_when_it_serves(
    pipeline: Pipeline,
) -> None:
    port = free_port()
    worker = pipeline.worker("worker-1", "--http", str(port))
    assert get(port, "/readyz")[0] == 200
    pipeline.servers.database.kill()
    pipeline.send("hello")
    pipeline.wait(lambda: get(port, "/readyz")[0] == 503, "not ready")
    assert json.loads(get(port, "/readyz")[1])["consuming"]
    assert get(port, "/healthz")[0] == 200
    assert metric(port, "turnwise_requests_in_hand") == 1
    pipeline.servers.database.start()
    pipeline.wait(lambda: get(port, "/readyz")[0] == 200, "ready again")
    pipeline.wait_served(1)
    pipeline.api("DELETE", f"queues/{pipeline.name}/requests")
    pipeline.wait_event(worker, "worker.consuming", times=2)
    assert metric(port, 'turnwise_connection_failures_total{server="broker"}') == 1
    assert metric(port, 'turnwise_connection_failures_total{server="database"}') >= 1


def test_a_worker_exposes_its_counts(pipeline: Pipeline) -> None:
    port = free_port()
    pipeline.worker("worker-1", "--http", f"127.0.0.1:{port}", "--prefetch", "10")
    pipeline.send_counted(20)
    pipeline.publish(b"no request")
    pipeline.wait_served(20)
    pipeline.wait_all_settled()
    assert metric(port, "turnwise_requests_served_total") == 20
    assert metric(port, 'turnwise_requests_dead_lettered_total{reason="invalid"}') == 1
    assert metric(port, "turnwise_batch_size_sum") == 21
    assert metric(port, "turnwise_requests_in_hand") == 0
    assert metric(port, "turnwise_commit_seconds_count") >= 3
    assert get(port, "/nonesuch") == (404, "/healthz\n/readyz\n/metrics\n")


def test_a_producer_exposes_its_counts(pipeline: Pipeline) -> None:
    port = free_port()
    pipeline.start("producer", "producer", "send", "x", "--quantum", "10ms", "--http", str(port))
    label = f'{{client="{pipeline.wait_client()}"}}'
    pipeline.wait(
        lambda: metric(port, f"turnwise_requests_confirmed_total{label}") > 10, "some confirmed"
    )
    assert metric(port, f"turnwise_requests_waiting{label}") <= 2
    assert get(port, "/healthz")[0] == 200


def test_a_port_in_use_is_reported(pipeline: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = pipeline.run("worker", "run", "--http", str(port), code=ExitCode.CONFIG)
    assert f"cannot serve HTTP on 127.0.0.1:{port}" in result.stderr
