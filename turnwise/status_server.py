"""A small HTTP server beside the work, for probes and metrics: a thread that only reads."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from turnwise.errors import ExitCode, TurnwiseError
from turnwise.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

Page = Callable[[], tuple[HTTPStatus, str, bytes]]
"""Returns the status, the content type and the body."""


class StatusServerError(TurnwiseError):
    """The HTTP server for probes and metrics cannot serve."""

    exit_code = ExitCode.CONFIG


class StatusServer:
    """Serves pages by their path on ``address``, as long as the context lasts.

    Should its thread die, the loop raises StatusServerError: a process that nobody can look into
    is better started anew.
    """

    def __init__(self, loop: Loop, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        self._loop = loop
        self._pages = pages
        self._closing = False
        try:
            self._server = make_server(
                *address,
                self._answer,
                server_class=_IPv6Server if ":" in address[0] else _Server,
                handler_class=_Handler,
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
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        try:
            self._server.serve_forever(poll_interval=0.5)
        finally:
            if not self._closing:
                self._loop.add_callback(_raise_died)

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


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The base class would look its own name up in the DNS, which may take long.
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), port
        self.setup_environ()


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Probes come every few seconds; nobody wants a line for each."""


def _raise_died() -> None:
    raise StatusServerError("the HTTP server for probes and metrics died")
