"""Answers of the database read the short way, held against what PyMySQL makes of them."""

# ruff: noqa: SLF001

from __future__ import annotations

import socket
import threading
import time

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.constants import COMMAND
from pymysql.protocol import MysqlPacket, OKPacketWrapper

from turnwise.driver import Connection, is_empty

# Made once: it looks for certificates.
CONNECTION = Connection(defer_connect=True)


def number(value: int) -> bytes:
    """A length-encoded integer."""
    if value < 251:
        return value.to_bytes(1)
    for prefix, size in ((b"\xfc", 2), (b"\xfd", 3)):
        if value < 256**size:
            return prefix + value.to_bytes(size, "little")
    return b"\xfe" + value.to_bytes(8, "little")


packets = st.builds(
    lambda count, row_id, status, warnings, text: (
        b"\0" + number(count) + number(row_id) + status + warnings + text
    ),
    st.integers(0, 65_535),
    st.sampled_from([0, 0, 0, 1, 250, 251, 65_535, 65_536, 2**24, 2**63]),
    st.binary(min_size=2, max_size=2),
    st.binary(min_size=2, max_size=2),
    st.sampled_from([b"", b"&Records: 2  Duplicates: 0  Warnings: 0"]),
)


@given(packets | st.binary(max_size=40), st.data())
def test_the_fast_path_reads_what_pymysql_reads_or_falls_back_to_it(
    payload: bytes, data: st.DataObject
) -> None:
    header = len(payload).to_bytes(3, "little") + b"\1"
    answer = data.draw(
        st.sampled_from(
            [header + payload] * 3
            + [header + payload[:-1], header + payload + b"\0", header[:3] + b"\0" + payload]
        )
    )
    count = CONNECTION.affected(answer)
    if count is not None:
        assert answer == header + payload
        wanted = OKPacketWrapper(MysqlPacket(payload, "utf8"))
        assert count == wanted.affected_rows
        assert CONNECTION.server_status == wanted.server_status
        assert CONNECTION.last_id == wanted.insert_id


def test_the_usual_answers_take_the_fast_path() -> None:
    assert CONNECTION.affected(b"\x07\0\0\1\0\1\0\2\0\0\0") == 1
    assert CONNECTION.affected(b"\x09\0\0\1\0\xfc\xf4\1\0\2\0\0\0") == 500
    assert CONNECTION.affected(b"\x0a\0\0\1\0\1\xfd\0\0\1\2\0\0\0") == 1
    assert CONNECTION.last_id == 65_536


COLUMN = b"\x03def\0\0\0\x05known\0\x0c\x2d\0\x14\0\0\0\xfd\1\0\x27\0\0"
BEGIN = b"\1\0\0\1\1" + len(COLUMN).to_bytes(3, "little") + b"\2" + COLUMN
ENDS = [b"\5\0\0" + bytes((number,)) + b"\xfe\0\0\x21\0" for number in (3, 4, 5)]
NOTHING = BEGIN + ENDS[0] + ENDS[1]
FOUND = BEGIN + ENDS[0] + b"\6\0\0\4\5known" + ENDS[2]
TWO_ROWS = b"\7\0\0\1\0\2\0\2\0\0\0"
DUPLICATE = b"\x0c\0\0\1\xff\x26\4#23000dup"


@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["bytes", "pieces", "at once"])
@pytest.mark.parametrize(
    ("answers", "result"),
    [
        (TWO_ROWS + NOTHING, (2, False)),
        (TWO_ROWS + FOUND, (2, True)),
        (DUPLICATE + NOTHING, None),
        (DUPLICATE + FOUND, None),
    ],
    ids=["nothing", "found", "error, nothing", "error, found"],
)
def test_two_answers_are_told_apart_however_they_arrive(
    answers: bytes, result: tuple[int, bool] | None, size: int
) -> None:
    """And the answer to the next command is not taken for one of theirs."""
    connection = Connection(defer_connect=True)
    server, client = socket.socketpair()
    client.settimeout(10)
    connection._sock, connection._rfile = client, client.makefile("rb")
    connection._current_timeout, connection._next_seq_id = 10, 0

    def answer() -> None:
        # The server executes the second command once it has answered the first.
        server.recv(100)
        for begin in range(0, len(answers), size):
            server.sendall(answers[begin : begin + size])
            time.sleep(0.001)
        server.recv(100)
        server.sendall(TWO_ROWS)

    assert connection._find_short_way()
    thread = threading.Thread(target=answer)
    thread.start()
    insert, look = (COMMAND.COM_QUERY, b"INSERT"), (COMMAND.COM_QUERY, b"SELECT")
    try:
        if result is None:
            with pytest.raises(pymysql.IntegrityError):
                connection.look_after(insert, look)
        else:
            assert connection.look_after(insert, look) == result
        assert connection.run("UPDATE") == 2
    finally:
        thread.join()
        server.close()
        client.close()


def test_the_answer_of_a_query_is_empty_only_if_it_is_whole_and_has_no_row() -> None:
    begin, ends = BEGIN, ENDS
    assert is_empty(NOTHING)
    for other in (
        begin + ends[0],
        FOUND,
        begin + ends[0] + b"\5\0\0\4\4\xfe\0\0\0",
        begin + ends[0] + ends[1] + b"\0",
        (begin + ends[0] + ends[1])[:-1],
        b"\2" + (begin + ends[0] + ends[1])[1:],
        b"\x17\0\0\1\xff\x15\4#HY000some error text",
        b"",
    ):
        assert not is_empty(other)
