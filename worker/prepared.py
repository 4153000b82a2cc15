"""A prepared statement, run on PyMySQL's connection.

PyMySQL sends each statement as text, which the server parses each time: a quarter of the cost of an
INSERT of one row. This module uses three private names of PyMySQL. If a release changes one of
them, there is no prepared statement, and the caller sends text instead.

The bytes follow MySQL's protocol: COM_STMT_PREPARE, COM_STMT_EXECUTE.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Self

from pymysql.constants import ER, FIELD_TYPE

from turnwise.database import Connection, code_of
from turnwise.driver import Command

_COM_PREPARE, _COM_EXECUTE = 0x16, 0x17

_PREPARED = Struct("<xIHH").unpack_from  # id, columns, parameters
_EXECUTE = Struct("<IBI").pack  # id, no cursor, once
_INTEGER = Struct("<q").pack
_TYPE_OF_INT, _TYPE_OF_STR = bytes((FIELD_TYPE.LONGLONG, 0)), bytes((FIELD_TYPE.STRING, 0))
# By the number of values: a bitmap of the NULL ones, then a flag that types follow.
_NO_NULLS = [bytes((count + 7) // 8) + b"\x01" for count in range(256)]

_NOT_NOW = frozenset({ER.MAX_PREPARED_STMT_COUNT_REACHED, ER.UNSUPPORTED_PS})


class Prepared:
    """A statement of one connection, with ``?`` for each value."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._number = number

    @classmethod
    def on(cls, connection: Connection, statement: str) -> Self | None:
        """Prepare a statement; return None where that is impossible. Raises pymysql.Error."""
        try:
            send, receive = _ways(connection)
        except AttributeError:
            return None
        send(_COM_PREPARE, statement.encode())
        try:
            answer = receive()
        except Exception as error:
            if code_of(error) in _NOT_NOW:
                return None
            raise
        number, columns, parameters = _PREPARED(answer.get_all_data())
        for count in (parameters, columns):
            # One description each, then an EOF packet.
            for _ in range(count + 1 if count else 0):
                receive()
        return cls(connection, number)

    def run(self, *values: str | int) -> int:
        """Run a statement that returns no rows; return how many it changed.

        Raises pymysql.Error; ValueError as command().
        """
        return self._connection.command(*self.command(*values))

    def command(self, *values: str | int) -> Command:
        """Return the command of the protocol that runs the statement. Raises ValueError.

        A str may have up to 65,535 bytes, an int 64 bits.
        """
        parts = [_EXECUTE(self._number, 0, 1), _NO_NULLS[len(values)]]
        parts += [_TYPE_OF_INT if isinstance(value, int) else _TYPE_OF_STR for value in values]
        for value in values:
            if isinstance(value, int):
                parts.append(_INTEGER(value))
            else:
                encoded = value.encode()
                parts += (_size(len(encoded)), encoded)
        return _COM_EXECUTE, b"".join(parts)


def _ways(connection: Connection) -> tuple[Callable[[int, bytes], None], Callable[[], Any]]:
    """Return the functions that send a command and read a packet. Raises AttributeError."""
    driver: Any = connection
    driver._read_query_result  # noqa: B018, SLF001 - see above
    return driver._execute_command, driver._read_packet  # noqa: SLF001


def _size(size: int) -> bytes:
    """Return a length as the protocol writes it."""
    return bytes((size,)) if size < 251 else b"\xfc" + size.to_bytes(2, "little")  # noqa: PLR2004
