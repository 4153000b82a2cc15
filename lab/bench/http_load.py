"""Clients that PUT one request after the other: python -m lab.bench.http_load PORT COUNT.

They are one thrifty process, since it shares the machine with what it measures.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import sys
import time

CONNECTIONS = 64
"""Connections that are kept open, each with one request in flight."""


class _Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sent_at = 0.0
        self._answer = b""

    def put(self, counter: int) -> None:
        self._sent_at = time.perf_counter()
        self.socket.sendall(
            b"PUT /requests/bench/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
            % counter
        )

    def read(self) -> float | None:
        """Return the seconds that an answer took once it is complete (it has no body), or None."""
        self._answer += self.socket.recv(4096)
        if not self._answer.endswith(b"\r\n\r\n"):
            return None
        if not self._answer.startswith(b"HTTP/1.1 201 "):
            raise SystemExit(f"answered {self._answer!r}")
        self._answer = b""
        return time.perf_counter() - self._sent_at


def main(port: int, count: int) -> None:
    """PUT ``count`` requests, and print how long the answers took."""
    clients = [_Client(port) for _ in range(min(CONNECTIONS, count))]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    print("begun", flush=True)
    for sent, client in enumerate(clients, 1):
        client.put(sent)
    taken: list[float] = []
    sent = len(clients)
    while len(taken) < count:
        for key, _ in selector.select():
            seconds = key.data.read()
            if seconds is None:
                continue
            taken.append(seconds)
            if sent < count:
                sent += 1
                key.data.put(sent)
    cuts = statistics.quantiles(taken, n=100)
    print(json.dumps({"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
