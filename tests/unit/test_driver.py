"""Answers of the database read the short way, held against what PyMySQL makes of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pymysql.protocol import MysqlPacket, OKPacketWrapper

from turnwise.driver import Connection

# Made once: it looks for certificates.
CONNECTION = Connection(defer_connect=True)


def number(value: int) -> bytes:
    """A length-encoded integer."""
    if value < 251:
        return value.to_bytes(1)
    return b"\xfc" + value.to_bytes(2, "little")


packets = st.builds(
    lambda count, row_id, status, warnings, text: (
        b"\0" + number(count) + number(row_id) + status + warnings + text
    ),
    st.integers(0, 65_535),
    st.sampled_from([0, 0, 0, 1, 251]),
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
        assert (count, CONNECTION.server_status) == (wanted.affected_rows, wanted.server_status)


def test_the_usual_answers_take_the_fast_path() -> None:
    assert CONNECTION.affected(b"\x07\0\0\1\0\1\0\2\0\0\0") == 1
    assert CONNECTION.affected(b"\x09\0\0\1\0\xfc\xf4\1\0\2\0\0\0") == 500
