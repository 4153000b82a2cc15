"""PyMySQL's connection, with one limit for several steps, and a short way for what returns no rows.

PyMySQL makes three objects of an answer, with thirty calls, and asks the system whether it may
write and read before it does. Of most answers a worker needs one number.

Packets are those of the MySQL client/server protocol: COM_QUERY, and OK_Packet.
"""

# PyMySQL has no public name for its socket, for what it has read, nor for its timeouts.

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
"""Bytes of a packet; what is longer is sent as several."""

_OK = 0
_TWO_BYTES = 0xFC
"""In front of a number that has two."""

PRIVATE = (
    "_sock", "_rfile", "_current_timeout", "_next_seq_id",
    "_execute_command", "_write_bytes", "_read_query_result",
)  # fmt: skip
"""What the short way needs inside PyMySQL; without them all goes its own way."""


class Connection(_Driver):
    """PyMySQL's connection, with a limit for several steps together.

    PyMySQL limits each read and each write alone: twenty slow answers take twenty times as long.
    It raises the driver's errors; who uses it does so within ``database.translating``.
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
        """Let all that follows take so many seconds together; None: as its timeouts say."""
        self._until = None if seconds is None else time.monotonic() + seconds

    def close(self) -> None:
        """Close it, whatever state it is in; PyMySQL's own raises an error the second time."""
        if self.open:
            super().close()

    def run(self, statement: str, meanwhile: Callable[[], object] | None = None) -> int:
        """Run a statement that returns no rows; return how many it affected. Raises as query().

        ``meanwhile()`` is called when the statement is on its way, if it is known to be. It must
        not use this connection.
        """
        if self._readable or self._find_short_way():
            return self.command(COMMAND.COM_QUERY, statement.encode(), meanwhile)
        return self.query(statement)

    def command(
        self, command: int, about: bytes, meanwhile: Callable[[], object] | None = None
    ) -> int:
        """Send a command of the protocol that returns no rows, as run() does a statement."""
        readable = self._readable or self._find_short_way()
        if readable is None or self._sock is None or len(about) >= _LARGEST:
            self._execute_command(command, about)
            return self._read_query_result()
        self._send((len(about) + 1).to_bytes(4, "little") + bytes((command,)) + about)
        if meanwhile is not None:
            try:
                meanwhile()
            except BaseException:
                # The answer is still to come: nobody may take it for one to something else.
                self.close()
                raise
        limit = self._remaining(self._read)
        answer = b""
        if readable.poll(None if limit is None else limit * 1000):
            # Broken, it is PyMySQL's again.
            with contextlib.suppress(OSError):
                answer = self._rfile.peek()
        # All that is not this one kind, errors above all, is PyMySQL's; so is that time is up.
        count = self.affected(answer)
        if count is None:
            self._next_seq_id = 1
            return self._read_query_result()
        self._rfile.read(len(answer))
        return count

    def _find_short_way(self) -> select.poll | None:
        """Return what waits for an answer; None where there is no short way."""
        if not all(hasattr(self, name) for name in PRIVATE) or self._sock is None:
            return None
        # Bytes that have come may be no answer yet.
        if isinstance(self._sock, ssl.SSLSocket):
            return None
        self._readable = select.poll()
        self._readable.register(self._sock, select.POLLIN)
        return self._readable

    def _send(self, packet: bytes) -> None:
        # With a timeout, Python would ask whether the socket can be written to.
        if self._current_timeout != 0:
            self._sock.settimeout(0)
            self._current_timeout = 0
        try:
            sent = self._sock.send(packet)
        except OSError:
            sent = 0  # full, or broken: PyMySQL sees to it
        if sent < len(packet):
            self._write_bytes(packet[sent:])

    def affected(self, answer: bytes) -> int | None:
        """Return the count of an answer that is one whole OK packet."""
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
        # After the last inserted id, and before the count of warnings and a text.
        self.server_status = int.from_bytes(answer[rest + 1 : rest + 3], "little")
        return count

    # What PyMySQL looks at before it reads a packet, and before it writes.

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
        # 0 would mean: do not wait at all, with another error.
        return max(0.001, self._until - time.monotonic())


_STATUS_SIZE = 5  # an id that is 0, two bytes of status, two of warnings
_SHORTEST = 4 + 2 + _STATUS_SIZE
