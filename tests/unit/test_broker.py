"""A peer that hangs up at once, whenever that is noticed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from turnwise.broker import Broker
from turnwise.errors import Transient
from turnwise.loop import Loop
from turnwise.node import Node, parse_urls


@pytest.fixture
def rude() -> Iterator[Node]:
    """A node that resets each connection as soon as it is established."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    reset = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield parse_urls(f"amqp://127.0.0.1:{server.getsockname()[1]}/")[0]
        server.shutdown(socket.SHUT_RDWR)


def test_a_peer_that_hangs_up_at_once_is_retried(rude: Node) -> None:
    with contextlib.closing(Loop()) as loop:
        for _ in range(100):
            with pytest.raises(Transient):
                Broker.connect(loop, [rude], "test")


def test_a_peer_that_hung_up_before_its_name_was_looked_up_is_retried(
    rude: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one moment in which pika takes it for the caller's error; it is met now and then."""

    def gone(_socket: socket.socket) -> None:
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr(socket.socket, "getpeername", gone)
    with contextlib.closing(Loop()) as loop, pytest.raises(Transient, match="cannot reach"):
        Broker.connect(loop, [rude], "test")
