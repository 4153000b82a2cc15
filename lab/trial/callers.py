"""HTTP clients of a trial: each counts, and repeats every doubtful PUT through another door."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable, Sequence

TIMEOUT = 4.0
"""Seconds that a caller waits for an answer; less than a fault may last."""

RETRY = 0.1
"""Seconds between two tries; jitter at most doubles it."""

DIE = 0.1
"""The probability that a caller dies after a doubtful try, which leaves the outcome unknown."""

_CREATED, _TOO_MANY, _UNAVAILABLE, _TIMEOUT = 201, 429, 503, 408


class Caller(threading.Thread):
    """PUTs requests one after the other, at most ``per_second``, until ``finish()``.

    ``ports()`` returns the ports of the doors, or of the proxies in front of them. When a caller
    dies, its successor counts under a new name.
    """

    def __init__(self, name: str, ports: Callable[[], Sequence[int]], per_second: float) -> None:
        super().__init__(name=name, daemon=True)
        self.confirmed: dict[tuple[str, int], str] = {}
        """Messages that were answered 201, by identity."""
        self.offered: dict[tuple[str, int], str] = {}
        """All messages that were ever sent, by identity."""
        self.doubtful = 0
        """The number of tries without an answer, or with one that leaves the outcome open."""
        self.unexpected: list[str] = []
        """Answers that no fault of a trial explains."""
        self._ports = ports
        self._pause = 1 / per_second
        self._rng = random.Random(name)
        self._finishing = threading.Event()
        self._over = threading.Event()

    def finish(self) -> None:
        """Send nothing new, but keep sending the current request until it is confirmed."""
        self._finishing.set()

    def abandon(self) -> None:
        """Send nothing further."""
        self._finishing.set()
        self._over.set()

    def run(self) -> None:
        """Count, and send each request."""
        life, counter = 1, 1
        while not self._finishing.is_set():
            begun = time.monotonic()
            if self._put(f"{self.name}-{life}", counter):
                counter += 1
            else:
                life, counter = life + 1, 1
            self._finishing.wait(max(0.0, begun + self._pause - time.monotonic()))

    def _put(self, client: str, counter: int) -> bool:
        """Send one request until it is confirmed; return False if the caller dies before that."""
        message = f"{client} {counter} {self._rng.randbytes(self._rng.randrange(100)).hex()} ünï"
        self.offered[client, counter] = message
        while not self._over.is_set():
            try:
                status = self._try(f"/requests/{client}/{counter}", message)
            except (OSError, http.client.HTTPException):
                status = None
            if status == _CREATED:
                self.confirmed[client, counter] = message
                return True
            if status not in {None, _TOO_MANY, _UNAVAILABLE, _TIMEOUT}:
                self.unexpected.append(f"{client}/{counter}: {status}")
            self.doubtful += 1
            if not self._finishing.is_set() and self._rng.random() < DIE:
                return False
            self._over.wait(RETRY * (1 + self._rng.random()))
        return False

    def _try(self, path: str, message: str) -> int:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._rng.choice(self._ports()), timeout=TIMEOUT
        )
        try:
            connection.request("PUT", path, message.encode())
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()
