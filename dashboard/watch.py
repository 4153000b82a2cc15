"""The watchers: a thread for each source, shared by all pages; quick only while somebody looks."""

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
"""Seconds after a page's last question from which on nobody looks."""

IDLE_PACE = 2.0
"""Seconds between two looks while nobody looks: the charts go on."""

RETRY = 0.5
"""Seconds between two tries. There is one watcher of each kind, so it hurts nobody."""

RETRY_PERMANENT = 3.0
"""The same where somebody has to act first."""


class Source(Protocol):
    """Somewhere to look."""

    server: str
    hurries: bool
    """Whether to look at once when somebody asks for something that only a look can tell."""

    def look(self) -> float:
        """Tell the board; return after how many seconds to look again. Raises ServerError."""

    def close(self) -> None:
        """Give back what it holds."""


class Pace:
    """Lets watchers wait: long while nobody looks, until somebody does."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._looked = time.monotonic()
        self._hurry = False
        self._stopping = False

    def looked(self) -> None:
        """Somebody looks."""
        with self._condition:
            was_idle = self._idle()
            self._looked = time.monotonic()
            if was_idle:
                self._condition.notify_all()

    def hurry(self) -> None:
        """Somebody waits for the next look."""
        with self._condition:
            self._hurry = True
            self._condition.notify_all()

    def stop(self) -> None:
        """End all waits."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def wait(self, seconds: float, hurries: bool) -> bool:
        """Wait until it is time for another look; False if there shall be none."""
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
    """Looks again and again, and tells the board what it sees or why it does not."""

    def __init__(self, source: Source, board: Board, pace: Pace) -> None:
        super().__init__(name=f"watch {source.server}", daemon=True)
        self._source = source
        self._board = board
        self._pace = pace
        self._outage = Outage(log, source.server)

    def run(self) -> None:
        """Look until the pace is stopped."""
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
