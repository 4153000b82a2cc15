"""The sources of requests: a clock, or standard input. Both add requests to the outbox."""

from __future__ import annotations

import errno
import os
import time

from producer.outbox import Outbox, OutboxFull
from producer.pace import Pace
from turnwise.errors import InvalidRequest, TurnwiseError
from turnwise.limits import MAX_MESSAGE_BYTES
from turnwise.loop import Loop

_CHUNK = 64 * 1024

_RETRY = 0.1
"""Seconds between tries while the outbox is full."""


class Clock:
    """Sends the same message once per quantum, driven by the loop's timers.

    Quanta that pass while the outbox is full are skipped. With a count, all of it is still sent.
    """

    def __init__(self, loop: Loop, outbox: Outbox, message: str, pace: Pace) -> None:
        self.finished = False
        self.failure: TurnwiseError | None = None
        self._loop = loop
        self._outbox = outbox
        self._message = message
        self._pace = pace
        self._due = 0  # due, but not accepted yet
        loop.call_later(0, self._tick)

    def _tick(self) -> None:
        if self._loop.asked:
            self.finished = True
        if self.finished:
            return
        self._due = self._due or self._pace.due(time.monotonic())
        try:
            self._outbox.accept([self._message] * self._due)
        except OutboxFull as full:
            self.failure = full
            self._loop.call_later(_RETRY, self._tick)
            return
        self.failure = None
        self._due = 0
        self.finished = self._pace.finished
        self._loop.call_later(self._pace.wait(time.monotonic()), self._tick)


class Lines:
    """Reads one request per line as lines arrive; the last newline may be missing.

    A line that is not a valid message ends the reading; the lines before it are accepted. While the
    outbox is full nothing is read, so that the writer of the lines has to wait.
    """

    def __init__(self, loop: Loop, outbox: Outbox, fd: int) -> None:
        self.finished = False
        self.failure: TurnwiseError | None = None
        self._loop = loop
        self._outbox = outbox
        self._fd = fd
        self._reading = False
        self._rest = b""
        self._line = 0
        self._messages: list[str] = []  # read, but not accepted yet
        self._last = False  # whether to stop reading after them
        self._invalid: InvalidRequest | None = None  # the line after them
        self._resume()

    def _finish(self) -> None:
        self._pause()
        self.finished = True

    def _resume(self) -> None:
        if not self._reading:
            self._loop.add_handler(self._fd, self._read, Loop.READ)
        self._reading = True

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_handler(self._fd)
        self._reading = False

    def _read(self, _fd: int, _events: int) -> None:
        if self._loop.asked:
            # An unfinished line is not accepted.
            self._finish()
            return
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            why = "is closed" if error.errno == errno.EBADF else f"cannot be read: {error.strerror}"
            self._invalid = InvalidRequest("standard input", why)
            chunk = self._rest = b""  # the rest of the unfinished line is lost
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        # No line may be longer than a message, which bounds what is kept of it.
        if self._rest and (not chunk or len(self._rest) > MAX_MESSAGE_BYTES + 1):
            lines.append(self._rest)
            self._rest = b""
        self._last = not chunk
        for line in lines:
            self._line += 1
            try:
                self._messages.append(self._decode(line.removesuffix(b"\r")))
            except InvalidRequest as error:
                self._last = True
                self._invalid = error
                break
        self._accept()

    def _accept(self) -> None:
        try:
            self._outbox.accept(self._messages)
        except OutboxFull as full:
            self.failure = full
            self._pause()
            if self._loop.asked:
                self._finish()
            else:
                self._loop.call_later(_RETRY, self._accept)
            return
        self._messages = []
        self.failure = self._invalid
        if self._last:
            self._finish()
        else:
            self._resume()

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
