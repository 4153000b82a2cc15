"""Makes the standard streams safe: they may be closed, on a full disk, or without a reader.

Standard output is a command's purpose: if it cannot be written, the command ends with an error.
Standard error is for people: what cannot be written there is lost, and the command continues.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from typing import Any, TextIO

from turnwise.errors import ExitCode, TurnwiseError

STDIN, STDOUT, STDERR = 0, 1, 2


class OutputLost(TurnwiseError):
    """Standard output cannot be written."""

    exit_code = ExitCode.STORAGE

    def __init__(self, error: OSError) -> None:
        why = "it is closed" if error.errno == errno.EBADF else error.strerror
        super().__init__(f"cannot write standard output: {why}")
        self.reader_gone = error.errno == errno.EPIPE
        """Whether the reader has gone, as ``| head`` does: that is not worth a message."""


BROKEN_PIPE = 128 + signal.SIGPIPE
"""The exit code in that case, as a shell reports it for a program that SIGPIPE ended."""


class _Stream(io.FileIO):
    """Writes until a write fails, then discards everything. ``raises``: raise the first failure."""

    def __init__(self, descriptor: int, *, raises: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.failure: OSError | None = None
        self._raises = raises

    def write(self, data: Any, /) -> int:
        """Write ``data`` or discard it; return how many of its bytes are done with."""
        if self.failure is None:
            try:
                return super().write(data)
            except BlockingIOError:
                raise
            except OSError as error:
                self.failure = error
                if self._raises:
                    raise OutputLost(error) from None
        return memoryview(data).nbytes


def guard() -> None:
    """Make the standard streams safe to use. Call this before anything else."""
    for descriptor, mode in (
        # The next file opened would get the number of a closed stream, and with it the stream's
        # output. These placeholders take the numbers, and still fail like a closed stream.
        (STDIN, os.O_WRONLY),
        (STDOUT, os.O_RDONLY),
        (STDERR, os.O_WRONLY),  # except this one, which discards its output
    ):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, mode)
            os.set_inheritable(opened, True)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(STDOUT, sys.stdout, raises=True)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(STDERR, sys.stderr, raises=False)


def reader_gone() -> bool:
    """Whether the reader of standard error has gone away."""
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    failure = raw.failure if isinstance(raw, _Stream) else None
    return failure is not None and failure.errno == errno.EPIPE


def is_live() -> bool:
    """Whether standard error is a terminal on which a line can be overwritten."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def has_colour() -> bool:
    """Whether colours are wanted, on a terminal (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _text(descriptor: int, like: TextIO | None, *, raises: bool) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(descriptor, raises=raises)),
        encoding=like.encoding if like else "utf-8",
        errors=like.errors if like else "backslashreplace",
        line_buffering=True,
    )
