"""The state of the handler's thread, which the loop watches in order to enforce the limits."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from turnwise.database import TIMEOUT, Connection

W = TypeVar("W")

OURS_LIMIT = 2 * TIMEOUT
"""Seconds for a turn's own statements: sending and answering each have one timeout."""

STOP_TIMEOUT = 5.0
"""Seconds for a handler to return once the worker must end, and for recording the attempt."""


class Why(enum.Enum):
    """Why the loop ended the thread's database connection."""

    LIMIT = "limit"
    """The handler has used up its time."""
    STOP = "stop"
    """The worker must end."""
    HUNG = "hung"
    """The database does not answer."""


class Expired(Exception):
    """The loop ended the database connection while the handler was running."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


class _At(enum.Enum):
    NOTHING = enum.auto()
    OURS = enum.auto()
    HANDLER = enum.auto()


class Watch(Generic[W]):
    """Shared by two threads. ``work`` is the work that the handler was last called for."""

    def __init__(self, time_limit: float) -> None:
        self.work: W | None = None
        self.why: Why | None = None
        """Why the connection was ended, until the thread has noticed it."""
        self.stop_at: float | None = None
        """The thread's deadline (monotonic), once the worker was asked to stop."""
        self._time_limit = time_limit
        self._lock = threading.Lock()
        self._at = _At.NOTHING
        self._since = 0.0
        self._connection: Connection | None = None
        self._number = 0

    # -- the thread's side

    def uses(self, connection: Connection | None, number: int = 0) -> None:
        """Note the connection that the thread uses, and its number on the server."""
        with self._lock:
            self._connection, self._number = connection, number

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """Mark the block as the worker's own database work."""
        self._enter(_At.OURS)
        try:
            yield
        finally:
            self._enter(_At.NOTHING)

    def begin_handling(self, work: W) -> None:
        """Mark the thread as running the handler."""
        self.work = work
        self._enter(_At.HANDLER)

    def end_handling(self) -> None:
        """Mark the handler as returned. Raises Expired if the loop ended the connection."""
        ended = self._enter(_At.OURS)
        if ended is not None:
            raise Expired(ended)

    def over(self) -> bool:
        """Return whether the time to start further work is over."""
        return self.stop_at is not None and time.monotonic() >= self.stop_at

    def _enter(self, at: _At) -> Why | None:
        with self._lock:
            ended, self.why = self.why, None
            self._at, self._since = at, time.monotonic()
            return ended

    # -- the loop's side

    @property
    def stuck(self) -> bool:
        """Whether a handler still runs although its connection was ended."""
        return self._at is _At.HANDLER and self.why is not None

    @property
    def deadline(self) -> float | None:
        """When to end the connection (monotonic); None if the thread is idle or was ended."""
        if self._at is _At.NOTHING or self.why is not None:
            return None
        handler = self._at is _At.HANDLER
        ends = self._since + (self._time_limit if handler else OURS_LIMIT)
        if self.stop_at is not None:
            ends = min(ends, self.stop_at + (0.0 if handler else STOP_TIMEOUT))
        return ends

    def end(self) -> tuple[Why, int, Connection | None] | None:
        """End the thread's connection if its time is over; return why, its number, and itself.

        The caller must also KILL that number on the server, which may be in the middle of a
        statement and would notice the closed connection only at its end.
        """
        with self._lock:
            now = time.monotonic()
            deadline = self.deadline
            if deadline is None or now < deadline:
                return None
            if self._at is _At.OURS:
                why = Why.HUNG
            elif now >= self._since + self._time_limit:
                why = Why.LIMIT
            else:
                why = Why.STOP
            self.why = why
            connection, number = self._connection, self._number
        if connection is not None:
            _shut(connection)
        return why, number, connection


def _shut(connection: Connection) -> None:
    """Shut the connection's socket, which ends any wait of the other thread on it."""
    # PyMySQL has no public name for the socket.
    wire = connection._sock  # noqa: SLF001
    if wire is not None:
        with contextlib.suppress(OSError):
            # Not the TLS socket's own method, which would disturb the other thread's read.
            socket.socket.shutdown(wire, socket.SHUT_RDWR)
