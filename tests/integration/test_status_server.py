"""Slow, idle or misbehaving clients must neither block probes nor be logged."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.harness import commands
from lab.harness.process import Process, free_port, wait_until

MANY = 1500
"""Connections: more than a process may have open files by default."""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def producer(tmp_path: Path, host: str, port: int) -> Iterator[Process]:
    """Start a producer without RabbitMQ, which serves its health meanwhile."""
    process = commands.start(
        "producer",
        tmp_path,
        ["producer", "send", "x", "--http", f"[{host}]:{port}"],
        {
            "AMQP_URL": "amqp://nobody:nothing@127.0.0.1:1/",
            "PRODUCER_OUTBOX": str(tmp_path / "outbox.db"),
            "LOG_FORMAT": "json",
        },
    )
    wait_until(lambda: probe(host, port) is not None, "it serves", 30)
    yield process
    process.kill()


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * MANY), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def probe(host: str, port: int) -> int | None:
    """Probe as Kubernetes does: on a new connection, with a timeout of five seconds."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def assert_nothing_logged(process: Process) -> None:
    said = process.log.read_text()
    assert "Traceback" not in said
    assert "waitress" not in said
    assert len(said.splitlines()) < 50


@pytest.mark.usefixtures("many_files")
def test_slow_connections_do_not_block_a_probe(producer: Process, host: str, port: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MANY):
            slow = stack.enter_context(socket.create_connection((host, port), timeout=5))
            with contextlib.suppress(OSError):  # the server may have closed it by now to make room
                slow.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        begun = time.monotonic()
        for _ in range(20):
            assert probe(host, port) in {200, 503}
        assert time.monotonic() - begun < 5
    assert_nothing_logged(producer)


def test_idle_and_reset_connections_are_not_logged(producer: Process, host: str, port: int) -> None:
    for begin in (b"", b"GET /healthz HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\n\r\n", b"\x16\x03"):
        for _ in range(20):
            with socket.create_connection((host, port), timeout=5) as rude:
                rude.sendall(begin)
                # Close by RST.
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with socket.create_connection((host, port), timeout=60) as idle:
        assert idle.recv(1) == b""  # closed by the server, after a while
    assert probe(host, port) in {200, 503}
    assert_nothing_logged(producer)
