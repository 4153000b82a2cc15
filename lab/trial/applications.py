"""Applications of a trial: they insert requests into the table outbox in their own transactions."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pymysql

from lab.trial.check import Table
from turnwise import outbox

LARGEST = 5
"""The most requests in one transaction."""

LONG = 3.0
"""Seconds that one in twenty transactions stays open, so its rows appear after later ones."""

RETRY = 0.2
"""Seconds between a failed transaction and the next."""

_ABANDON, _ROLL_BACK, _LONG = 0.1, 0.3, 0.05


class Application(threading.Thread):
    """Commits, rolls back or abandons transactions, ``per_second`` requests on average.

    It calls ``connect()`` whenever it has no connection.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], pymysql.Connection[pymysql.cursors.Cursor]],
        per_second: float,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.committed: set[str] = set()
        """Messages of committed transactions."""
        self.undone: set[str] = set()
        """Messages of transactions that were rolled back, abandoned, or lost before COMMIT."""
        self.doubtful: set[str] = set()
        """Messages of transactions whose COMMIT had no answer: the outcome is unknown."""
        self._connect = connect
        self._connection: Any = None
        self._pause = (1 + LARGEST) / 2 / per_second
        self._rng = random.Random(name)
        self._finishing = threading.Event()

    def finish(self) -> None:
        """Begin no further transaction."""
        self._finishing.set()

    def run(self) -> None:
        """Run one transaction after the other."""
        number = 0
        while not self._finishing.is_set():
            begun = time.monotonic()
            number += 1
            noise = self._rng.randbytes(self._rng.randrange(100)).hex()
            messages = {
                f"{self.name} {number}.{n} {noise} ünï"
                for n in range(1, self._rng.randint(1, LARGEST) + 1)
            }
            try:
                self._transact(messages)
            except pymysql.Error:
                self._drop()
                self._finishing.wait(RETRY)
            self._finishing.wait(max(0.0, begun + self._pause - time.monotonic()))
        self._drop()

    def _transact(self, messages: set[str]) -> None:
        fate = self._rng.random()
        self.undone |= messages
        if self._connection is None:
            self._connection = self._connect()
        self._connection.begin()
        with self._connection.cursor() as cursor:
            for message in messages:
                outbox.send(cursor, "requests", message)
        if self._rng.random() < _LONG:
            time.sleep(LONG)
        if fate < _ABANDON:
            self._drop()
        elif fate < _ROLL_BACK:
            self._connection.rollback()
        else:
            self.undone -= messages
            self.doubtful |= messages
            self._connection.commit()
            self.doubtful -= messages
            self.committed |= messages

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(pymysql.Error):
                connection.close()


def gather(applications: Sequence[Application], clients: Mapping[str, int]) -> Table:
    """Return what applications left in the table, and the ``clients`` that relays sent it as."""
    none: frozenset[str] = frozenset()
    return Table(
        none.union(*(application.committed for application in applications)),
        none.union(*(application.undone for application in applications)),
        none.union(*(application.doubtful for application in applications)),
        clients,
    )
