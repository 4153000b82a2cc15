"""A small HTTP server for probes and metrics, in a thread that only reads."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Self
from wsgiref.types import StartResponse, WSGIEnvironment

from turnwise.errors import ExitCode, TurnwiseError
from turnwise.http_server import HttpServer
from turnwise.loop import ALIVE_WITHIN, Loop

THREADS = 2
"""Threads that answer requests, each from memory."""

CONNECTIONS = 100
"""The most open connections; beyond that, the one idle for the longest time is closed."""

Page = Callable[[], tuple[HTTPStatus, str, bytes]]
"""Returns the status, the content type and the body."""


class StatusServerError(TurnwiseError):
    """The HTTP server for probes and metrics cannot serve."""

    exit_code = ExitCode.CONFIG


class StatusServer:
    """Serves /healthz and other pages by path on ``address``, as long as the context lasts.

    /healthz is 200 as long as the loop turns. It does not depend on the servers that the process
    uses: a restart would not bring them back.

    If its thread dies, the loop raises StatusServerError: a process that cannot be monitored
    should be restarted.
    """

    def __init__(self, loop: Loop, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        self._loop = loop
        self._pages = {"/healthz": self._healthz, **pages}
        self._closing = False
        try:
            self._server = HttpServer(
                self._answer, address, threads=THREADS, connections=CONNECTIONS, max_body=1024
            )
        except OSError as error:
            host, port = address
            host = f"[{host}]" if ":" in host else host
            raise StatusServerError(
                f"cannot serve HTTP on {host}:{port}: {error.strerror}; choose another --http"
            ) from error
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        self._server.stop()
        self._thread.join()

    def _serve(self) -> None:
        try:
            self._server.run()
        finally:
            if not self._closing:
                self._loop.add_callback(_raise_died)

    def _healthz(self) -> tuple[HTTPStatus, str, bytes]:
        silence = self._loop.silence
        alive = silence < ALIVE_WITHIN
        body = json.dumps({"alive": alive, "seconds_since_turn": round(silence, 3)}).encode()
        status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json", body

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        page = self._pages.get(environ["PATH_INFO"])
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, kind, body = HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET only\n"
        elif page is None:
            known = "\n".join(self._pages)
            status, kind, body = HTTPStatus.NOT_FOUND, "text/plain", f"{known}\n".encode()
        else:
            status, kind, body = page()
        start(
            f"{status.value} {status.phrase}",
            [
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
            ],
        )
        return [body] if environ["REQUEST_METHOD"] == "GET" else []


def _raise_died() -> None:
    raise StatusServerError("the HTTP server for probes and metrics ended unexpectedly")
