"""The watchers: a thread for each source, shared by all pages; fast only while a page is open."""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from dashboard.board import Board
from turnwise.errors import ServerError, Transient
from turnwise.log import Outage

log = logging.getLogger(__name__)

IDLE_AFTER = 10.0
"""Seconds after the last question of a page until the watchers count as idle."""

IDLE_PACE = 2.0
"""Seconds between two polls while idle, which keeps the charts complete."""

RETRY = 0.5
"""Seconds between two tries. With a single watcher of each kind, that is no burden."""

RETRY_PERMANENT = 3.0
"""The same for an error that an operator must fix first."""


class Source(Protocol):
    """A server to poll."""

    server: str
    hurries: bool
    """Whether to poll at once when a page asks for something that only a poll can answer."""

    def look(self) -> float:
        """Update the board; return the seconds until the next poll. Raises ServerError."""

    def close(self) -> None:
        """Release the source's connections."""


class Pace:
    """Paces the watchers: slowly while no page is open, until one is."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._looked = time.monotonic()
        self._hurry = False
        self._stopping = False

    def looked(self) -> None:
        """Note that a page is open."""
        with self._condition:
            was_idle = self._idle()
            self._looked = time.monotonic()
            if was_idle:
                self._condition.notify_all()

    def hurry(self) -> None:
        """Ask for the next poll at once, since a page waits for it."""
        with self._condition:
            self._hurry = True
            self._condition.notify_all()

    def stop(self) -> None:
        """End all waits."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def wait(self, seconds: float, hurries: bool) -> bool:
        """Wait until the next poll is due; return False if the watchers must stop."""
        with self._condition:
            idle = self._idle()
            self._condition.wait_for(
                lambda: self._stopping or (hurries and self._hurry) or (idle and not self._idle()),
                max(IDLE_PACE, seconds) if idle else seconds,
            )
            if hurries:
                self._hurry = False
            return not self._stopping

    def _idle(self) -> bool:
        return time.monotonic() - self._looked > IDLE_AFTER


class Watcher(threading.Thread):
    """Polls a source repeatedly, and puts the results or errors on the board."""

    def __init__(self, source: Source, board: Board, pace: Pace) -> None:
        super().__init__(name=f"watch {source.server}", daemon=True)
        self._source = source
        self._board = board
        self._pace = pace
        self._outage = Outage(log, source.server)

    def run(self) -> None:
        """Poll until the pace is stopped."""
        wait = 0.0
        while self._pace.wait(wait, self._source.hurries):
            wait = self._look()
        self._source.close()

    def _look(self) -> float:
        try:
            wait = self._source.look()
        except ServerError as error:
            wait = RETRY if isinstance(error, Transient) else RETRY_PERMANENT
            self._board.failed(self._source.server, str(error))
            self._outage.failed(error, wait)
        else:
            self._board.seen(self._source.server)
            self._outage.over()
        return wait
