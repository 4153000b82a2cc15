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
_NULL, _TWO_BYTES = 0xFB, 0xFC
"""From _NULL on, a byte is not a number but a prefix; after _TWO_BYTES come two bytes."""

_SIZES = {_TWO_BYTES: 2, 0xFD: 3, 0xFE: 8}

Command = tuple[int, bytes]
"""The byte of a protocol command, and its data."""

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
    insert_id: Callable[[], int]
    server_status: int
    last_id: int = 0
    """The AUTO_INCREMENT value that the last of run() and command() generated; 0 if none."""
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
        count = self.query(statement)
        self.last_id = self.insert_id()
        return count

    def write(self, statement: str) -> tuple[int, int]:
        """Run a statement as run() does; return the affected rows, and ``last_id``."""
        count = self.run(statement)
        return count, self.last_id

    def command(
        self, command: int, about: bytes, meanwhile: Callable[[], object] | None = None
    ) -> int:
        """Send a protocol command that returns no rows, as run() sends a statement."""
        readable = self._readable or self._find_short_way()
        if readable is None or self._sock is None or len(about) >= _LARGEST:
            self._execute_command(command, about)
            count = self._read_query_result()
            self.last_id = self.insert_id()
            return count
        self._send(_packet(command, about))
        if meanwhile is not None:
            try:
                meanwhile()
            except BaseException:
                # The answer is still to come, and must not be taken for that of a later command.
                self.close()
                raise
        return self._answer(readable)

    def look_after(self, first: Command, query: Command) -> tuple[int, bool]:
        """Run two commands without waiting in between: one without rows, then a query.

        Returns how many rows the first affected, and whether the query found any; the query's
        columns must be texts. Raises the first command's error only after the query has run too, so
        the query may have begun another transaction.
        """
        readable = self._readable or self._find_short_way()
        size = len(first[1]) + len(query[1])
        if readable is None or self._sock is None or size >= _LARGEST:
            return self.command(*first), self.command(*query) > 0
        self._send(_packet(*first) + _packet(*query))
        answer = self._peek(readable)
        # Both answers may have arrived already.
        size = 4 + int.from_bytes(answer[:3], "little")
        count = self.affected(answer[:size])
        if count is None:
            return self._slow_answers()
        self._rfile.read(size)
        answer = answer[size:] or self._peek(readable)
        if is_empty(answer):
            self._rfile.read(len(answer))
            return count, False
        return count, self._slow_answer() > 0

    def _slow_answers(self) -> tuple[int, bool]:
        try:
            count = self._slow_answer()
        except Exception:
            if self.open:
                self._slow_answer()
            raise
        return count, self._slow_answer() > 0

    def commit(self) -> None:
        """Commit the transaction; return when the server has."""
        self.run("COMMIT")

    def _answer(self, readable: select.poll) -> int:
        answer = self._peek(readable)
        count = self.affected(answer)
        if count is None:
            return self._slow_answer()
        self._rfile.read(len(answer))
        return count

    def _slow_answer(self) -> int:
        """Have PyMySQL read the answer: any other kind, errors above all, and a timeout."""
        self._next_seq_id = 1
        count = self._read_query_result()
        self.last_id = self.insert_id()
        return count

    def _peek(self, readable: select.poll) -> bytes:
        """Wait for an answer; return the bytes that have arrived, none after a timeout."""
        limit = self._remaining(self._read)
        if readable.poll(None if limit is None else limit * 1000):
            # If the connection is broken, PyMySQL handles it later.
            with contextlib.suppress(OSError):
                return bytes(self._rfile.peek())
        return b""

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
        elif count >= _NULL:
            return None
        # The size in three bytes, and the number of the packet, which is the first after ours.
        whole = int.from_bytes(answer[:4], "little") == len(answer) - 4 + (1 << 24)
        if not whole or len(answer) < rest + 1:
            return None
        last_id, rest = answer[rest], rest + 1
        if last_id >= _NULL:
            size = _SIZES.get(last_id, 0)
            last_id, rest = int.from_bytes(answer[rest : rest + size], "little"), rest + size
            if not size:
                return None
        if len(answer) < rest + _STATUS_SIZE:
            return None
        self.last_id = last_id
        # Before the number of warnings and a text.
        self.server_status = int.from_bytes(answer[rest : rest + 2], "little")
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


_STATUS_SIZE = 4  # two bytes of status, two of warnings
_SHORTEST = 4 + 3 + _STATUS_SIZE


def _packet(command: int, about: bytes) -> bytes:
    return (len(about) + 1).to_bytes(4, "little") + bytes((command,)) + about


def is_empty(answer: bytes) -> bool:
    """Return whether this is the whole answer of a query with one column that found nothing."""
    if answer[:5] != _ONE_COLUMN:
        return False
    # Then come the column's description, and a packet of five bytes after the columns and the rows.
    end = len(answer) - 2 * _EOF_SIZE
    described = int.from_bytes(answer[5:9], "little") == end - 9 + (2 << 24)
    return described and answer[end : end + 5] == _EOF[3] and answer[end + 9 : end + 14] == _EOF[4]


_ONE_COLUMN = b"\x01\0\0\x01\x01"
_EOF_SIZE = 9
_EOF = {number: b"\x05\0\0" + bytes((number, 0xFE)) for number in (3, 4)}
