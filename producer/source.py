"""Where requests come from: a clock, or standard input. Both accept into the outbox as they go."""

from __future__ import annotations

import os
import time

from producer.outbox import Outbox
from producer.pace import Pace
from turnwise.errors import InvalidRequest
from turnwise.limits import MAX_MESSAGE_BYTES
from turnwise.loop import Loop

_CHUNK = 64 * 1024


class Clock:
    """The same message once per quantum, driven by the loop's timers."""

    def __init__(self, loop: Loop, outbox: Outbox, message: str, pace: Pace) -> None:
        self.finished = False
        self.failure: InvalidRequest | None = None
        self._loop = loop
        self._outbox = outbox
        self._message = message
        self._pace = pace
        loop.call_later(0, self._tick)

    def stop(self) -> None:
        """Accept no more."""
        self.finished = True

    def _tick(self) -> None:
        if self.finished:
            return
        self._outbox.accept([self._message] * self._pace.due(time.monotonic()))
        self.finished = self._pace.finished
        self._loop.call_later(self._pace.wait(time.monotonic()), self._tick)


class Lines:
    """One request a line, read as they come; the end of the last line may be missing.

    A line that cannot be a request ends the reading. Those before it are accepted.
    """

    def __init__(self, loop: Loop, outbox: Outbox, fd: int) -> None:
        self.finished = False
        self.failure: InvalidRequest | None = None
        self._loop = loop
        self._outbox = outbox
        self._fd = fd
        self._rest = b""
        self._line = 0
        loop.add_handler(fd, self._read, Loop.READ)

    def stop(self) -> None:
        """Read no more. What was read of an unfinished line is not accepted."""
        if not self.finished:
            self.finished = True
            self._loop.remove_handler(self._fd)

    def _read(self, _fd: int, _events: int) -> None:
        chunk = os.read(self._fd, _CHUNK)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        # No line is longer than a message may be: what is kept of one stays small.
        if self._rest and (not chunk or len(self._rest) > MAX_MESSAGE_BYTES + 1):
            lines.append(self._rest)
            self._rest = b""
        messages = []
        for line in lines:
            self._line += 1
            try:
                messages.append(self._decode(line.removesuffix(b"\r")))
            except InvalidRequest as error:
                self.failure = error
                break
        self._outbox.accept(messages)
        if not chunk or self.failure:
            self.stop()

    def _decode(self, line: bytes) -> str:
        if len(line) > MAX_MESSAGE_BYTES:
            raise InvalidRequest(
                f"line {self._line}", f"has more than {MAX_MESSAGE_BYTES} bytes; reading ends here"
            )
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"line {self._line}", "is not UTF-8; reading ends here") from None


Source = Clock | Lines
