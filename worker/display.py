"""Shows what a worker serves to a person watching it on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from turnwise.loop import Loop
from turnwise.message import Request

LINES = 10
"""The most lines in a second. One further line counts the requests beyond them."""

_INTERVAL = 1.0
_PREVIEW = 60


class Display:
    """Writes a line for each request at a readable pace, and a count of the others."""

    def __init__(self, loop: Loop, write: Callable[[str], object]) -> None:
        self._loop = loop
        self._write = write
        self._room = LINES
        self._more = 0
        self._last: Request | None = None
        self._tick()

    def served(self, requests: Sequence[Request]) -> None:
        """Show what has just been committed."""
        shown = requests[: self._room]
        for request in shown:
            self._write(f"{_clock()} served  {request.message_id}  {_preview(request.message)}")
        self._room -= len(shown)
        if len(requests) > len(shown):
            self._more += len(requests) - len(shown)
            self._last = requests[-1]

    def _tick(self) -> None:
        if self._last:
            self._write(f"{_clock()} served  {self._more:,} more, up to {self._last.message_id}")
        self._room, self._more, self._last = LINES, 0, None
        self._loop.call_later(_INTERVAL, self._tick)


def _clock() -> str:
    return datetime.fromtimestamp(time.time()).astimezone().strftime("%H:%M:%S")


def _preview(message: str) -> str:
    """Return the start of a message, without characters that a terminal would obey."""
    text = "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message[:_PREVIEW]
    )
    return text + "…" * (len(message) > _PREVIEW)
