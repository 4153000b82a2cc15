"""``producer serve``: clients that are slow, disconnect early, or are too many."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.harness.commands import BIN
from lab.harness.process import free_port
from producer.door.listener import HEAD_TIMEOUT
from tests.door import Door, exchange, open_door, read_answer
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode

PATH = "/requests/alice/1"


@pytest.fixture
def door(pipeline: Pipeline) -> Door:
    return open_door(pipeline)


def test_a_client_that_disconnects_leaves_nothing_behind(pipeline: Pipeline, door: Door) -> None:
    with door.socket() as client:
        client.sendall(door.head(PATH, "Content-Length: 10") + b"hello")
        pipeline.wait(lambda: door.metric("turnwise_door_connections") == 2, "a client and me")
    with door.socket() as client:
        client.sendall(door.head(PATH, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
    pipeline.wait(lambda: door.metric("turnwise_door_connections") == 1, "only me")
    assert pipeline.ready() == 0, "half a message is none"
    # A complete request is published even if its client no longer waits for the answer.
    with door.socket() as client:
        client.sendall(door.head(PATH, "Content-Length: 5") + b"hello")
    pipeline.wait(lambda: pipeline.ready() == 1, "the request")
    pipeline.wait(lambda: door.metric("turnwise_door_connections") == 1, "only me")
    assert door.metric("turnwise_door_under_way") == 0


def test_a_message_that_never_arrives_times_out(pipeline: Pipeline) -> None:
    door = open_door(pipeline, "--timeout", "1s")
    with door.socket() as client:
        begun = time.monotonic()
        client.sendall(door.head(PATH, "Content-Length: 10") + b"hello")
        answer = read_answer(client)
        assert answer.status == 408
        assert "1 s" in answer.detail
        assert 1 <= time.monotonic() - begun < 5
        assert client.recv(1) == b""
    assert pipeline.ready() == 0


def _dribble(clients: list[socket.socket], data: bytes) -> int:
    """Send a few bytes on each connection; return how many are still open."""
    there = 0
    for client in clients:
        try:
            client.sendall(data)
        except OSError:
            continue
        there += 1
    return there


def _resident(door: Door) -> float:
    pages = int(Path(f"/proc/{door.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture
def slow_clients() -> Iterator[list[socket.socket]]:
    clients: list[socket.socket] = []
    yield clients
    for client in clients:
        client.close()


def test_a_thousand_slow_clients_cost_little_and_delay_no_other(
    pipeline: Pipeline, door: Door, slow_clients: list[socket.socket]
) -> None:
    assert door.put("alice", 1).status == 201
    before = _resident(door)
    # Before any client's ten seconds are over.
    until = time.monotonic() + HEAD_TIMEOUT - 1
    for number in range(1000):
        client = door.socket()
        slow_clients.append(client)
        if number % 2:
            client.sendall(f"PUT {PATH} HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".encode())
        else:
            client.sendall(door.head(f"/requests/slow/{number + 1}", "Content-Length: 16000"))
    pipeline.wait(lambda: door.metric("turnwise_door_connections") == 1001, "all of them and me")
    first = _resident(door)
    assert first - before < 40, "MiB for a thousand"
    counter = 1
    while time.monotonic() < until and counter < 50:
        assert _dribble(slow_clients, b"x" * 50) == 1000
        counter += 1
        begun = time.monotonic()
        assert door.put("alice", counter).status == 201
        assert time.monotonic() - begun < 5
    assert counter > 5
    assert _resident(door) - first < 8, "MiB: what they dribble is bounded"
    # Heads have ten seconds, messages --timeout, which is ten seconds as well.
    pipeline.wait(lambda: door.metric("turnwise_door_connections") == 1, "none but me")
    assert door.metric('turnwise_door_answers_total{status="408"}') == 500
    assert pipeline.ready() == counter


def test_excess_connections_are_refused_and_the_others_served(
    pipeline: Pipeline, slow_clients: list[socket.socket]
) -> None:
    port = free_port()
    prlimit = shutil.which("prlimit")
    assert prlimit is not None
    producer = str(BIN / "producer")
    # The door reserves fifty file descriptors for other purposes.
    process = pipeline.start(
        "few-files", prlimit, "--nofile=60", producer, "serve", "--http", str(port)
    )
    pipeline.wait_event(process, "door.serving")
    door = Door(process, port)
    pipeline.wait(door.ready, "a door that may publish")
    connection = door.connection()
    assert exchange(connection, "PUT", PATH, b"hello").status == 201
    slow_clients += [door.socket() for _ in range(9)]
    with door.socket() as client:
        answer = read_answer(client)
    assert answer.status == 503
    assert "10 connections are open already" in answer.detail
    assert answer.headers["retry-after"] == "1"
    assert exchange(connection, "PUT", PATH, b"hello").status == 201
    slow_clients.pop().close()
    pipeline.wait(lambda: door.put("alice", 2).status == 201, "room again")
    connection.close()


def test_sigterm_waits_for_slow_clients_until_the_timeout_at_most(pipeline: Pipeline) -> None:
    door = open_door(pipeline, "--timeout", "2s")
    with door.socket() as in_head, door.socket() as in_message:
        in_head.sendall(b"PUT /requests/alice/1 HTTP/1.1\r\nHost: ")
        in_message.sendall(door.head(PATH, "Content-Length: 10") + b"hello")
        pipeline.wait(lambda: door.metric("turnwise_door_connections") == 3, "both and me")
        door.process.signal(signal.SIGTERM)
        assert in_head.recv(1) == b""
        assert read_answer(in_message).status == 408
        assert door.process.wait(10) == ExitCode.OK
    assert pipeline.ready() == 0
