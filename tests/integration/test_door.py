"""``producer serve``: its answer to everything a client may do."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from tests.door import Door, exchange, open_door, read_answer
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode
from turnwise.limits import MAX_MESSAGE_BYTES
from turnwise.message import MAX_COUNTER

PATH = "/requests/alice/1"
TOKEN = "a-token-of-the-test"


@pytest.fixture
def door(pipeline: Pipeline) -> Door:
    return open_door(pipeline)


def test_an_accepted_put_is_recorded(pipeline: Pipeline, door: Door) -> None:
    messages = {1: "hello", 2: "", 3: "ünïcödé 😀\r\n\0", 4: "x" * MAX_MESSAGE_BYTES}
    for counter, message in messages.items():
        answer = door.put("alice", counter, message)
        assert answer.status == 201
        assert answer.headers["location"] == f"/requests/alice/{counter}"
        assert answer.body == b""
    assert door.put("bob", MAX_COUNTER).status == 201
    pipeline.worker("worker-1")
    rows = pipeline.wait_served(5)
    assert {(row.client, row.counter): row.message for row in rows} == {
        **{("alice", counter): message for counter, message in messages.items()},
        ("bob", MAX_COUNTER): "hello",
    }
    assert all(row.sent_at <= row.served_at for row in rows)


def test_a_message_may_be_sent_in_chunks(pipeline: Pipeline, door: Door) -> None:
    assert door.ask("PUT", PATH, iter([b"hel", b"lo"])).status == 201
    pipeline.worker("worker-1")
    [row] = pipeline.wait_served(1)
    assert row.message == "hello"


WRONG: list[tuple[str, str, bytes | None, int, str]] = [
    ("PUT", "/requests/al%20ice/1", b"", 400, "client: must be 1 to 64 characters"),
    ("PUT", "/requests/%C3%BC/1", b"", 400, "client: must be"),
    ("PUT", f"/requests/{'x' * 65}/1", b"", 400, "client: must be"),
    ("PUT", "/requests//1", b"", 400, "client: must be"),
    ("PUT", "/requests/alice/0", b"", 400, "counter: must be a number"),
    ("PUT", "/requests/alice/-1", b"", 400, "counter: must be a number"),
    ("PUT", "/requests/alice/01", b"", 400, "counter: must be a number"),
    ("PUT", "/requests/alice/one", b"", 400, "counter: must be a number"),
    ("PUT", "/requests/alice/%D9%A1", b"", 400, "counter: must be a number"),
    ("PUT", f"/requests/alice/{MAX_COUNTER + 1}", b"", 400, "counter: must be between"),
    ("PUT", "/requests/alice/1", b"caf\xe9", 400, "message: is not UTF-8 at byte 3"),
    ("PUT", "/requests/alice/1", b"\xed\xa0\x80", 400, "message: is not UTF-8 at byte 0"),
    ("PUT", "/requests/alice/1", b"x" * (MAX_MESSAGE_BYTES + 1), 413, "16384 bytes allowed"),
    ("PUT", "/requests/alice", b"", 404, "/requests/CLIENT/COUNTER"),
    ("PUT", "/requests/alice/1/", b"", 404, "/requests/CLIENT/COUNTER"),
    ("PUT", "/requests/ali%2Fce/1", b"", 400, "client: must be"),
    ("PUT", "/", b"", 404, "/requests/CLIENT/COUNTER"),
    ("GET", "/requests/alice/1", None, 405, "stores nothing that could be read"),
    ("POST", "/requests/alice/1", b"hello", 405, "PUT only"),
    ("DELETE", "/requests/alice/1", None, 405, "PUT only"),
    ("OPTIONS", "/requests/alice/1", None, 405, "PUT only"),
    ("PUT", "/healthz", b"", 405, "only be read"),
]


def test_a_malformed_request_is_answered_with_a_problem_that_names_the_mistake(
    pipeline: Pipeline, door: Door
) -> None:
    for method, path, body, status, detail in WRONG:
        answer = door.ask(method, path, body)
        assert answer.status == status, (method, path)
        assert detail in answer.detail
        allowed = {405: "GET, HEAD" if path == "/healthz" else "PUT"}.get(status)
        assert answer.headers.get("allow") == allowed
        assert "retry-after" not in answer.headers, "it would be wrong again"
    assert pipeline.ready() == 0


def test_an_oversized_message_is_refused_before_it_is_read(door: Door) -> None:
    with door.socket() as client:
        client.sendall(door.head(PATH, "Content-Length: 1000000000"))
        assert read_answer(client).status == 413
    # A client that sends "Expect: 100-continue" is not told to continue.
    with door.socket() as client:
        client.sendall(door.head(PATH, "Content-Length: 20000", "Expect: 100-continue"))
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
    with door.socket() as client:
        client.sendall(door.head(PATH, "Content-Length: 5", "Expect: 100-continue"))
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert read_answer(client).status == 201


def test_an_oversized_chunked_message_is_refused_at_the_limit(door: Door) -> None:
    with door.socket() as client:
        client.sendall(door.head(PATH, "Transfer-Encoding: chunked"))
        chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        client.sendall(5 * chunk)
        assert read_answer(client).status == 413


def test_a_client_that_keeps_sending_after_a_refusal_still_gets_the_answer(door: Door) -> None:
    connection = door.connection()
    answer = exchange(connection, "PUT", PATH, b"x" * 500_000)
    assert answer.status == 413
    # The rest of the body was discarded, so the connection can be reused.
    assert exchange(connection, "PUT", PATH, b"hello").status == 201
    connection.close()
    with door.socket() as client:
        client.sendall(door.head(PATH, "Content-Length: 1000000000"))
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            client.sendall(bytes(100_000_000))


def test_an_endless_head_is_refused(door: Door) -> None:
    with door.socket() as client:
        client.sendall(f"PUT {PATH} HTTP/1.1\r\nHost: localhost\r\n".encode())
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):  # noqa: PT012
            for number in range(10_000):
                client.sendall(f"X-{number}: {'x' * 1000}\r\n".encode())
                time.sleep(0.001)
    assert door.metric("turnwise_door_connections") == 1


NOT_HTTP = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PUT /requests/\xc3\xbc/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PUT http://[/requests/alice/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"nonsense\r\n\r\n",
    b"PUT /requests/alice/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"PUT /requests/alice/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
]


def test_malformed_http_is_answered_with_400(pipeline: Pipeline, door: Door) -> None:
    for data in NOT_HTTP:
        with door.socket() as client:
            client.sendall(data)
            answer = read_answer(client)
            assert answer.status == 400
            assert "not HTTP" in answer.detail
            assert client.recv(1) == b""
    assert pipeline.ready() == 0
    assert "Traceback" not in door.process.log.read_text()


# Some HTTP clients offer it with each request; the parser then treats what follows as no body.
UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")


def test_unusual_requests_are_answered_like_any_other(pipeline: Pipeline, door: Door) -> None:
    for data, status in (
        (b"PUT http://localhost/requests/a/1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 201),
        (b"PUT /requests/a/2?x=1#y HTTP/1.1\r\nHost: localhost\r\n\r\n", 201),
        (b"PUT /requests/a/3 HTTP/1.0\r\nHost: localhost\r\n\r\n", 201),
        (door.head("/requests/a/4", "Upgrade: websocket", "Connection: Upgrade"), 201),
        (b"PUT /requests/a/5 HTTP/1.1\r\n\r\n", 421),
        (door.head("/requests/a/6", *UPGRADE, "Content-Length: 5") + b"hello", 400),
        (door.head("/requests/a/7", *UPGRADE, "Content-Length: 5"), 400),
        (door.head("/requests/a/8", *UPGRADE, "Transfer-Encoding: chunked"), 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ):
        with door.socket() as client:
            client.sendall(data)
            assert read_answer(client).status == status, data
    assert pipeline.ready() == 4
    assert "Traceback" not in door.process.log.read_text()


def test_a_put_requires_the_token(pipeline: Pipeline) -> None:
    door = open_door(pipeline, token=TOKEN)
    assert door.put("alice", 1).status == 201
    for given in (f"bearer {TOKEN} ", f"BEARER  {TOKEN}"):
        assert door.ask("PUT", PATH, b"hello", Authorization=given).status == 201
    for given, detail in (
        ("", "Authorization: Bearer TOKEN"),
        (f"Basic {TOKEN}", "Authorization: Bearer TOKEN"),
        ("Bearer", "wrong"),
        (f"Bearer {TOKEN}x", "wrong"),
        (f"Bearer {TOKEN[:-1]}", "wrong"),
        ("Bearer \xfc", "wrong"),
    ):
        for path in (PATH, "/requests/alice", "/requests/alice/0"):
            answer = door.ask("PUT", path, b"hello", Authorization=given)
            assert answer.status == 401
            assert detail in answer.detail
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert TOKEN.encode() not in answer.body
    for path in ("/healthz", "/readyz", "/metrics"):
        assert door.ask("GET", path, Authorization="").status == 200
    assert TOKEN not in door.process.log.read_text()


def test_the_token_can_be_read_from_a_file(pipeline: Pipeline) -> None:
    file = pipeline.folder / "token"
    file.write_text(f"{TOKEN}\n")
    door = open_door(pipeline, PRODUCER_TOKEN_FILE=str(file))
    assert door.put("alice", 1).status == 401
    assert door.ask("PUT", PATH, b"hello", Authorization=f"Bearer {TOKEN}").status == 201


def test_without_a_token_it_answers_only_on_loopback_and_under_its_own_name(
    pipeline: Pipeline, door: Door
) -> None:
    answer = door.ask("PUT", PATH, b"hello", Host="rebound.example.com")
    assert answer.status == 421
    assert "localhost" in answer.detail
    for host in ("localhost", f"LOCALHOST:{door.port}", f"127.0.0.1:{door.port}", "[::1]:1"):
        assert door.ask("PUT", PATH, b"hello", Host=host).status == 201
    said = pipeline.run("producer", "serve", "--http", "0.0.0.0:0", code=ExitCode.USAGE)
    assert "PRODUCER_TOKEN" in said.stderr


def test_the_door_reports_a_port_in_use(pipeline: Pipeline, door: Door) -> None:
    said = pipeline.run("producer", "serve", "--http", str(door.port), code=ExitCode.CONFIG)
    assert f"127.0.0.1:{door.port}" in said.stderr
    assert "--http" in said.stderr


def test_connections_are_kept_alive_and_requests_may_be_pipelined(
    pipeline: Pipeline, door: Door
) -> None:
    with door.socket() as client:
        client.sendall(
            b"".join(
                door.head(f"/requests/alice/{counter}", "Content-Length: 5") + b"hello"
                for counter in (1, 2, 3)
            )
        )
        answers = b""
        while answers.count(b"\r\n\r\n") < 3:
            answers += client.recv(65536)
    assert re.findall(rb"^HTTP/1.1 (\d+)", answers, re.MULTILINE) == [b"201"] * 3
    assert re.findall(rb"location: \S+/(\d)\r", answers) == [b"1", b"2", b"3"]
    connection = door.connection()
    for counter in range(4, 20):
        assert exchange(connection, "PUT", f"/requests/alice/{counter}", b"x").status == 201
        assert connection.sock is not None
    connection.close()
    assert pipeline.ready() == 19


def test_repeating_a_put_changes_nothing(pipeline: Pipeline, door: Door) -> None:
    for _ in range(3):
        assert door.put("alice", 1).status == 201
    pipeline.worker("worker-1")
    [row] = pipeline.wait_served(1)
    pipeline.wait_all_settled()
    assert pipeline.served() == 1
    assert row.message == "hello"
    assert pipeline.messages("requests.dead") == 0


def test_one_confirm_answers_a_request_and_its_repeat_but_not_a_conflict(
    pipeline: Pipeline,
) -> None:
    proxy, url = pipeline.broker_proxy()
    door = open_door(pipeline, AMQP_URL=url)
    proxy.hold(proxy.down)
    statuses: list[int] = []

    def put() -> None:
        statuses.append(door.put("alice", 1).status)

    tries = [threading.Thread(target=put) for _ in range(5)]
    for each in tries:
        each.start()
    pipeline.wait(lambda: door.metric("turnwise_door_connections") == 6, "five clients and me")
    pipeline.wait(lambda: door.metric("turnwise_door_under_way") == 1, "one request")
    answer = door.put("alice", 1, "goodbye")
    assert answer.status == 409
    assert "another message" in answer.detail
    assert statuses == [], "nothing is confirmed yet"
    proxy.release(proxy.down)
    for each in tries:
        each.join()
    assert statuses == [201] * 5
    assert pipeline.ready() == 1


def test_the_door_counts_its_answers(door: Door) -> None:
    for counter in (1, 2, 3):
        door.put("alice", counter)
    door.put("alice", 0)
    assert door.metric('turnwise_door_answers_total{status="201"}') == 3
    assert door.metric('turnwise_door_answers_total{status="400"}') == 1
    assert door.metric("turnwise_door_confirm_seconds_count") == 3
    assert door.metric("turnwise_door_ready") == 1
    head = door.ask("HEAD", "/metrics")
    assert (head.status, head.body) == (200, b"")


def test_sigterm_stops_an_idle_door(door: Door) -> None:
    connection = door.connection()
    assert exchange(connection, "PUT", PATH, b"hello").status == 201
    door.process.signal(signal.SIGTERM)
    assert door.process.wait(10) == ExitCode.OK
    connection.close()
