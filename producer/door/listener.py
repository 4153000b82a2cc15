"""The HTTP thread: uvicorn, and the limits that it lacks.

uvicorn accepts a head of any size, waits for it for ever, and keeps silent connections open.
"""

from __future__ import annotations

import asyncio
import logging
import math
import resource
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from producer.door.answers import Problem
from producer.door.application import MAX_HEAD, Application, head_too_large
from turnwise.errors import ExitCode, TurnwiseError

HEAD_TIMEOUT = 10.0
"""Seconds from the opening of a connection to the end of the first head on it."""

IDLE_TIMEOUT = 75.0
"""Seconds from a response to the end of the next head. Longer than load balancers keep a connection
(usually 60), or they would send requests on connections that are just being closed."""

MAX_BODY = 1024 * 1024
"""Bytes of a body as it is sent, with sizes and extensions of chunks and trailers, give or take one
read. That is more than a message may have: after an early response the body is read and discarded.
If the connection were closed at once, a client that is still sending would not see the response."""

MAX_CONNECTIONS = 10_000
"""The most connections open at the same time; fewer where the limit on open files is lower."""

_SWEEP = 1.0
_OTHER_FILES = 50

log = logging.getLogger(__name__)


class ListenError(TurnwiseError):
    """The door cannot listen, or has stopped listening by itself."""

    exit_code = ExitCode.CONFIG


class Listener:
    """Serves the application on ``address`` in a thread of its own, once start() is called.

    Calls ``ended()`` in that thread when it ends, for whatever reason.
    """

    def __init__(
        self,
        application: Application,
        address: tuple[str, int],
        timeout: float,
        ended: Callable[[], None],
    ) -> None:
        self._socket = _listen(address)
        self._ended = ended
        self.answers = False
        """Whether the thread is running. When it has ended, every pending request is answered."""
        most = _raise_files(MAX_CONNECTIONS + _OTHER_FILES) - _OTHER_FILES
        protocol = type("_Protocol", (_Protocol,), {"timeout": timeout, "most": most})
        config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=math.ceil(IDLE_TIMEOUT),
            timeout_graceful_shutdown=math.ceil(timeout) + 1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """The URL that it listens on."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._server.server_state.connections)

    def start(self) -> None:
        """Start accepting connections."""
        self.answers = True
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting; end once every pending request is answered. Returns at once."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except Exception:
            log.exception("door.died")
        finally:
            self.answers = False
            self._ended()

    async def _serve(self) -> None:
        sweeping = asyncio.create_task(self._sweep())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            sweeping.cancel()

    async def _sweep(self) -> None:
        """Close connections that have passed their deadline."""
        while True:
            await asyncio.sleep(_SWEEP)
            now = time.monotonic()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, _Protocol) and connection.deadline < now:
                    connection.transport.abort()


class _Protocol(HttpToolsProtocol):
    """One connection."""

    timeout: float
    most: int
    """The most connections at the same time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = True
        self._size = 0
        self.deadline = time.monotonic() + HEAD_TIMEOUT
        if len(self.connections) > self.most:
            detail = f"{self.most} connections are open already; try again"
            self._refuse(Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, close=True))

    def data_received(self, data: bytes) -> None:
        before = self._size
        self._size += len(data)
        if self._in_head and before > MAX_HEAD:
            self._refuse(head_too_large())
        elif before > MAX_BODY:
            self.transport.abort()
        else:
            super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are no part of the head.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._size = 0
        if not self.url.startswith(b"/"):
            self._take_host()
        # The application takes no longer than its timeout; this is for clients that do not read.
        self.deadline = time.monotonic() + 2 * self.timeout + HEAD_TIMEOUT
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._size = 0

    def on_response_complete(self) -> None:
        self.deadline = time.monotonic() + IDLE_TIMEOUT
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Respond to what is not HTTP."""
        self._refuse(Problem(HTTPStatus.BAD_REQUEST, f"this is not HTTP: {msg}", close=True))

    def _take_host(self) -> None:
        """Replace the Host header by the host of an absolute target (RFC 9112, section 3.2.2)."""
        host = httptools.parse_url(self.url).host
        if host:
            self.headers[:] = [each for each in self.headers if each[0] != b"host"]
            self.headers.append((b"host", b"[%b]" % host if b":" in host else host))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def run(scope: Any, receive: Any, send: Any) -> None:
            async def answer(event: Any) -> None:
                # uvicorn knows only about the last of several pipelined requests that the
                # connection is gone.
                cycle.disconnected = cycle.disconnected or self.transport.is_closing()
                await send(event)

            await app(scope, receive, answer)

        super()._start_asgi_task(cycle, run)

    def _refuse(self, problem: Problem) -> None:
        """Respond to a request that does not reach the application, and close the connection."""
        cycle: RequestResponseCycle | None = self.cycle
        if self.pipeline or not (cycle is None or cycle.response_complete or cycle.more_body):
            # The client would take this for the response to an earlier request of its pipeline.
            self.transport.abort()
            return
        status, headers, body = problem.answer()
        lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n"]
        self.transport.write(b"".join([*lines, body]))
        self.transport.close()


def _listen(address: tuple[str, int]) -> socket.socket:
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --http"
        ) from error


def _raise_files(wanted: int) -> int:
    """Raise the limit on open files towards ``wanted``; return how many may be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
