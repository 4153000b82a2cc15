"""PyMySQL's connection, with a time limit for several steps and a fast path without rows.

PyMySQL creates three objects for an answer, with thirty calls, and polls the socket before each
write and read. A worker needs one number of most answers.

Packets are those of the MySQL client/server protocol: COM_QUERY, and OK_Packet.
"""

# PyMySQL has no public names for its socket, its read buffer and its timeouts.

from __future__ import annotations

import contextlib
import select
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.constants import COMMAND
from pymysql.cursors import Cursor

if TYPE_CHECKING:
    _Driver = pymysql.Connection[Cursor]
else:
    _Driver = pymysql.Connection

_LARGEST = 2**24 - 1
"""Bytes of a packet; longer data is sent as several packets."""

_OK = 0
_TWO_BYTES = 0xFC
"""The prefix of a number of two bytes."""

PRIVATE = (
    "_sock", "_rfile", "_current_timeout", "_next_seq_id",
    "_execute_command", "_write_bytes", "_read_query_result",
)  # fmt: skip
"""PyMySQL's internals that the fast path needs; without them, PyMySQL does everything."""


class Connection(_Driver):
    """PyMySQL's connection, with a limit for several steps together.

    PyMySQL limits each read and each write separately: twenty slow answers take twenty times as
    long. Methods raise the driver's errors; callers use ``database.translating``.
    """

    _sock: Any
    _rfile: Any
    _current_timeout: float | None
    _next_seq_id: int
    _execute_command: Callable[[int, bytes], None]
    _write_bytes: Callable[[bytes], None]
    _read_query_result: Callable[[], int]
    server_status: int
    _until: float | None = None
    _read: float | None = None
    _write: float | None = None
    _readable: select.poll | None = None

    def allow(self, seconds: float | None) -> None:
        """Limit all further work to ``seconds`` in total; None restores the usual timeouts."""
        self._until = None if seconds is None else time.monotonic() + seconds

    def close(self) -> None:
        """Close the connection in any state; PyMySQL's own method raises if it is closed."""
        if self.open:
            super().close()

    def run(self, statement: str, meanwhile: Callable[[], object] | None = None) -> int:
        """Run a statement that returns no rows; return how many it affected. Raises like query().

        ``meanwhile()`` is called when the statement is on its way, if it is known to be. It must
        not use this connection.
        """
        if self._readable or self._find_short_way():
            return self.command(COMMAND.COM_QUERY, statement.encode(), meanwhile)
        return self.query(statement)

    def command(
        self, command: int, about: bytes, meanwhile: Callable[[], object] | None = None
    ) -> int:
        """Send a protocol command that returns no rows, as run() sends a statement."""
        readable = self._readable or self._find_short_way()
        if readable is None or self._sock is None or len(about) >= _LARGEST:
            self._execute_command(command, about)
            return self._read_query_result()
        self._send((len(about) + 1).to_bytes(4, "little") + bytes((command,)) + about)
        if meanwhile is not None:
            try:
                meanwhile()
            except BaseException:
                # The answer is still to come, and must not be taken for that of a later command.
                self.close()
                raise
        limit = self._remaining(self._read)
        answer = b""
        if readable.poll(None if limit is None else limit * 1000):
            # If the connection is broken, PyMySQL handles it below.
            with contextlib.suppress(OSError):
                answer = self._rfile.peek()
        # PyMySQL handles every other kind of answer, errors above all, and the timeout.
        count = self.affected(answer)
        if count is None:
            self._next_seq_id = 1
            return self._read_query_result()
        self._rfile.read(len(answer))
        return count

    def _find_short_way(self) -> select.poll | None:
        """Return the poll object that waits for answers; None if there is no fast path."""
        if not all(hasattr(self, name) for name in PRIVATE) or self._sock is None:
            return None
        # With TLS, received bytes may not amount to an answer yet.
        if isinstance(self._sock, ssl.SSLSocket):
            return None
        self._readable = select.poll()
        self._readable.register(self._sock, select.POLLIN)
        return self._readable

    def _send(self, packet: bytes) -> None:
        # With a timeout, Python would first poll whether the socket is writable.
        if self._current_timeout != 0:
            self._sock.settimeout(0)
            self._current_timeout = 0
        try:
            sent = self._sock.send(packet)
        except OSError:
            sent = 0  # full or broken: PyMySQL handles it
        if sent < len(packet):
            self._write_bytes(packet[sent:])

    def affected(self, answer: bytes) -> int | None:
        """Return the affected rows of an answer that is one complete OK packet, else None."""
        if len(answer) < _SHORTEST or answer[4] != _OK:
            return None
        count, rest = answer[5], 6
        if count == _TWO_BYTES:
            count, rest = int.from_bytes(answer[6:8], "little"), 8
        elif count > _TWO_BYTES:
            return None
        # The size in three bytes, and the number of the packet, which is the first after ours.
        whole = int.from_bytes(answer[:4], "little") == len(answer) - 4 + (1 << 24)
        if not whole or len(answer) < rest + _STATUS_SIZE or answer[rest] != 0:
            return None
        # After the last insert id, and before the number of warnings and a text.
        self.server_status = int.from_bytes(answer[rest + 1 : rest + 3], "little")
        return count

    # PyMySQL reads these before it reads or writes a packet.

    @property
    def _read_timeout(self) -> float | None:
        return self._remaining(self._read)

    @_read_timeout.setter
    def _read_timeout(self, seconds: float | None) -> None:
        self._read = seconds

    @property
    def _write_timeout(self) -> float | None:
        return self._remaining(self._write)

    @_write_timeout.setter
    def _write_timeout(self, seconds: float | None) -> None:
        self._write = seconds

    def _remaining(self, usual: float | None) -> float | None:
        if self._until is None:
            return usual
        # 0 would mean not to wait at all, and raise another error.
        return max(0.001, self._until - time.monotonic())


_STATUS_SIZE = 5  # an id that is 0, two bytes of status, two of warnings
_SHORTEST = 4 + 2 + _STATUS_SIZE
