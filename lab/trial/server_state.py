"""A server of a trial: which faults keep it away, and when it answered again."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from lab.harness.database import DatabaseServer
from lab.harness.rabbitmq import RabbitMQ

_GREETING_TIMEOUT = 0.3


class ServerState:
    """A server, how many faults keep it down or frozen, and when it answered again."""

    def __init__(self, server: RabbitMQ | DatabaseServer, heals: list[float]) -> None:
        self.server = server
        self.down_holds = 0
        self.frozen_holds = 0
        self._heals = heals
        self._serving = True
        self._looked = 0.0

    def is_whole(self) -> bool:
        """Return whether no fault keeps the server away, and it answers."""
        return self._serving and not self.down_holds and not self.frozen_holds

    def gone(self) -> None:
        """Record that the server stopped serving."""
        self._serving = False

    def healed(self) -> None:
        """Record that the server serves again, though its process never ended."""
        self._heals.append(time.time())

    def begin_stop(self) -> None:
        """Start a graceful stop, without waiting for it."""
        threading.Thread(target=self.server.stop, daemon=True).start()

    def tick(self, now: float) -> None:
        """Start the server once no fault keeps it down; record when it answers."""
        if not self.down_holds and not self.server.runner.alive():
            self.gone()
            self.server.runner.start()
        if self._serving or now - self._looked < _GREETING_TIMEOUT:
            return
        self._looked = now
        if self.greets():
            self._serving = True
            self._heals.append(time.time())

    def greets(self) -> bool:
        """Return whether the server greets: RabbitMQ after AMQP's header, a database unasked."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(
                ("127.0.0.1", self.server.port), timeout=_GREETING_TIMEOUT
            ) as connection,
        ):
            if isinstance(self.server, RabbitMQ):
                connection.sendall(b"AMQP\0\0\x09\x01")
            return bool(connection.recv(1))
        return False
