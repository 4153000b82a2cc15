"""A door under test, and clients for it: well-behaved ones, and raw bytes for the others."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.harness.process import Process, free_port
from tests.pipeline import Pipeline


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        """Return a problem's detail, after checking its other members."""
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = json.loads(self.body)
        assert problem.keys() == {"type", "title", "status", "detail"}
        assert problem["status"] == self.status
        assert problem["title"] == http.client.responses[self.status]
        return str(problem["detail"])


@dataclass(frozen=True)
class Door:
    process: Process
    port: int
    token: str | None = None

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        timeout: float = 30,
        **headers: str,
    ) -> Answer:
        """Send a request on a new connection. An iterator is sent in chunks."""
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        with contextlib.closing(self.connection(timeout)) as connection:
            return exchange(connection, method, path, body, **headers)

    def connection(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def put(self, client: str, counter: int, message: str | bytes = "hello") -> Answer:
        body = message if isinstance(message, bytes) else message.encode()
        return self.ask("PUT", f"/requests/{client}/{counter}", body)

    def ready(self) -> bool:
        return self.ask("GET", "/readyz").status == 200

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.split()[1]) for line in lines if line.split()[0] == name)

    def socket(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def head(self, path: str, *lines: str, method: str = "PUT") -> bytes:
        """Return the raw head of a request."""
        if self.token is not None:
            lines = (f"Authorization: Bearer {self.token}", *lines)
        return "\r\n".join(
            [f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]
        ).encode()


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | Iterator[bytes] | None = None,
    **headers: str,
) -> Answer:
    """Send a request on a connection, and leave it open."""
    chunked = body is not None and not isinstance(body, bytes)
    connection.request(method, path, body, headers, encode_chunked=chunked)
    response = connection.getresponse()
    answer = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, answer, response.read())


def read_answer(connection: socket.socket, method: str = "PUT") -> Answer:
    """Read one answer from a socket."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    answer = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, answer, response.read())


def open_door(
    pipeline: Pipeline,
    *options: str,
    token: str | None = None,
    ready: bool = True,
    port: int | None = None,
    **more: str,
) -> Door:
    """Start a door, and wait until it serves and, if ``ready``, may publish."""
    port = port or free_port()
    if token is not None:
        more["PRODUCER_TOKEN"] = token
    process = pipeline.start(
        f"door-{port}", "producer", "serve", "--http", str(port), *options, **more
    )
    pipeline.wait_event(process, "door.serving")
    door = Door(process, port, token)
    if ready:
        pipeline.wait(door.ready, "a door that may publish")
    return door
