"""An HTTP server that slow, idle and abusive clients cannot exhaust: waitress with limits.

One thread reads from all connections, so a slow one costs no thread. When there are too many, the
one that has been without a complete request for the longest time is closed in favour of the new
one, so a probe is answered even while other clients hold connections open.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterable
from typing import Any
from wsgiref.types import WSGIApplication

from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

IDLE_TIMEOUT = 20
"""Seconds after which an idle connection is closed."""

MAX_HEAD = 16 * 1024
"""Bytes of a request's line and headers."""

# What a client does to a connection is not our error and needs no log line. Errors of the
# application itself are still logged.
logging.getLogger("waitress").setLevel(logging.ERROR)


class HttpServer:
    """Listens once it is constructed; serves while ``run`` runs.

    A host that names several addresses is listened to on each. ``connections`` may be open at the
    same time, a request's body has at most ``max_body`` bytes (413 otherwise) and stays in memory.
    ``proxy`` is the address of a proxy whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are
    believed; ``*`` believes every client.

    Raises OSError if it cannot listen there.
    """

    def __init__(
        self,
        app: WSGIApplication,
        address: tuple[str, int],
        *,
        threads: int,
        connections: int,
        max_body: int,
        proxy: str | None = None,
    ) -> None:
        host, port = address
        self._map: dict[int, Any] = {}
        trusting: dict[str, Any] = (
            {
                "trusted_proxy": proxy,
                "trusted_proxy_count": 1,
                "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto"},
            }
            if proxy
            else {}
        )
        try:
            self._server = create_server(
                app,
                map=self._map,
                listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                threads=threads,
                # Its own limit only stops accepting; ours is reached first, and makes room.
                connection_limit=10 * connections,
                asyncore_use_poll=True,
                channel_timeout=IDLE_TIMEOUT,
                cleanup_interval=5,
                max_request_header_size=MAX_HEAD,
                max_request_body_size=max_body,
                inbuf_overflow=max_body + MAX_HEAD,  # beyond that it would use a file
                clear_untrusted_proxy_headers=True,
                log_socket_errors=False,
                ident=None,
                **trusting,
            )
        except ValueError as error:
            # waitress raises this for a host that cannot be resolved.
            raise OSError(0, "no such host") from error
        for listener in self._map.values():
            if isinstance(listener, BaseWSGIServer):
                listener.channel_class = type("Channel", (_Channel,), {"limit": connections})

    def run(self) -> None:
        """Serve until ``stop`` is called, or SystemExit or KeyboardInterrupt is raised."""
        self._server.run()

    def stop(self) -> None:
        """End ``run``, from any thread."""
        # Waitress runs a function passed to a listener's trigger in its own thread.
        trigger: Any = next(e for e in self._map.values() if isinstance(e, BaseWSGIServer)).trigger
        trigger.pull_trigger(self._close)

    def _close(self) -> None:
        for each in list(self._map.values()):
            each.close()


class _Channel(HTTPChannel):
    """A connection that makes room for itself."""

    limit = 0

    def __init__(
        self,
        server: Any,
        sock: Any,
        addr: Any,
        adj: Any,
        map: Any = None,  # noqa: A002
    ) -> None:
        super().__init__(server, sock, addr, adj, map)
        self.served_at = self.creation_time
        others = [each for each in (map or {}).values() if isinstance(each, _Channel)]
        for each in _those_to_go(others, len(others) - self.limit):
            # Not closed before the next turn of waitress's loop: its file descriptor could be
            # reused by another connection, which would get the pending events of this one.
            each.will_close = True
            if each.socket is not None:
                with contextlib.suppress(OSError):
                    each.socket.shutdown(socket.SHUT_RDWR)

    def service(self) -> None:
        """Answer one request."""
        super().service()
        self.served_at = self.last_activity


def _those_to_go(channels: Iterable[_Channel], count: int) -> list[_Channel]:
    if count <= 0:
        return []
    idle = [each for each in channels if not each.requests and not each.will_close]
    return sorted(idle, key=lambda each: each.served_at)[:count]
