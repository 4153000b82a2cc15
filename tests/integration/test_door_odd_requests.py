"""``producer serve``: requests that are valid HTTP, and that two programs may read differently."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import pytest

from producer.door.listener import MAX_BODY
from tests.door import Door, open_door, read_answer
from tests.pipeline import Pipeline

TOKEN = "an-odd-token"
CHUNKED = "Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n"


@pytest.fixture
def door(pipeline: Pipeline) -> Door:
    return open_door(pipeline)


def send(door: Door, data: bytes) -> tuple[int, str]:
    """Return the answer's status, and the problem's detail if it is one."""
    with door.socket() as client:
        client.sendall(data)
        answer = read_answer(client)
        return answer.status, "" if answer.status == 201 else answer.detail


def test_an_encoded_slash_separates_nothing(pipeline: Pipeline, door: Door) -> None:
    assert send(door, door.head("/requests/alice%2F1"))[0] == 404
    assert send(door, door.head("/requests/al%2Fice/1"))[0] == 400
    # Other characters may be encoded.
    assert send(door, door.head("/%72equests/%61lice/%31"))[0] == 201
    assert pipeline.ready() == 1


@pytest.mark.parametrize("client", [".", "..", "%2E", "%2e%2E"])
def test_a_name_that_http_clients_rewrite_is_refused(door: Door, client: str) -> None:
    status, detail = send(door, door.head(f"/requests/{client}/1"))
    assert status == 400
    assert "client: must not be '.' or '..'" in detail


def test_the_host_of_an_absolute_target_counts(door: Door) -> None:
    head = door.head("http://evil.example/requests/alice/1")
    assert send(door, head)[0] == 421
    assert send(door, head.replace(b"evil.example", b"LOCALHOST:%d" % door.port))[0] == 201


def test_a_header_that_two_programs_may_read_differently_is_refused(pipeline: Pipeline) -> None:
    """A proxy may check the last of two, and the door the first."""
    door = open_door(pipeline, token=TOKEN)
    for line in ("Host: evil.example", "Host: localhost", f"Authorization: Bearer {TOKEN}"):
        status, detail = send(door, door.head("/requests/alice/1", line))
        assert status == 400
        assert f"{line.partition(':')[0]}: is given twice" in detail
    assert pipeline.ready() == 0


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Content-Encoding: gzip", 415),
        ("Content-Encoding: br", 415),
        ("Content-Encoding: identity", 201),
        ("Content-Range: bytes 0-4/10", 400),
        ("Content-Type: application/octet-stream", 201),
    ],
)
def test_a_body_is_the_whole_message_as_it_is(door: Door, line: str, status: int) -> None:
    data = door.head("/requests/alice/1", line, "Content-Length: 5") + b"hello"
    assert send(door, data)[0] == status


def test_only_chunks_are_decoded(door: Door) -> None:
    head = door.head("/requests/alice/1", "Transfer-Encoding: gzip, chunked")
    status, detail = send(door, head + HELLO + b"\r\n")
    assert status == 501
    assert "chunked" in detail


def test_trailers_are_no_headers(pipeline: Pipeline) -> None:
    door = open_door(pipeline, token=TOKEN)
    head = door.head("/requests/alice/1", CHUNKED)
    for trailer in (b"Upgrade: h2c", b"Expect: 100-continue", b"Content-Encoding: gzip"):
        assert send(door, head + HELLO + trailer + b"\r\n\r\n")[0] == 201
    bare = Door(door.process, door.port).head("/requests/alice/1", CHUNKED)
    trailer = f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
    assert send(door, bare + HELLO + trailer)[0] == 401
    assert "Traceback" not in door.process.log.read_text()


@pytest.mark.parametrize("count", [1, 2000])
def test_a_head_that_arrives_at_once_is_bounded_too(door: Door, count: int) -> None:
    lines = [f"X-{number}: {'x' * (20_000 // count)}" for number in range(count)]
    status, detail = send(door, door.head("/requests/alice/1", *lines))
    assert status == 431
    assert "more than 16384 bytes" in detail


def test_the_answer_to_nonsense_is_not_taken_for_that_to_an_earlier_request(
    door: Door,
) -> None:
    """The door confirms the first of these two, or says nothing at all."""
    for counter in range(1, 21):
        with door.socket() as client:
            client.sendall(door.head(f"/requests/alice/{counter}") + b"nonsense\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(65536)[:13] in {b"HTTP/1.1 201 ", b""}
    assert "Traceback" not in door.process.log.read_text()


def test_a_client_may_leave_while_its_pipeline_is_answered(pipeline: Pipeline, door: Door) -> None:
    for counter in range(1, 101, 5):
        with door.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            puts = [door.head(f"/requests/alice/{counter + each}") for each in range(5)]
            client.sendall(b"".join(puts))
    pipeline.wait(lambda: door.metric("turnwise_door_connections") == 1, "only me")
    pipeline.wait(lambda: door.metric("turnwise_door_under_way") == 0, "nothing under way")
    assert "Traceback" not in door.process.log.read_text()


@pytest.mark.parametrize("filler", [b"5;", b"5\r\nhello\r\n0\r\nX: "])
def test_what_surrounds_a_message_is_bounded(door: Door, filler: bytes) -> None:
    """Chunks may have extensions, and trailers may follow them, of any length."""
    with door.socket() as client:
        client.sendall(door.head("/requests/alice/1", CHUNKED) + filler)
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):  # noqa: PT012
            for _ in range(100 * MAX_BODY // 65536):
                client.sendall(b"x" * 65536)
                time.sleep(0.001)
    assert door.metric("turnwise_door_connections") == 1
