"""Deliveries read without pika, compared with pika's reading of the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec

from turnwise.deliveries import Deliveries, Delivery, encode_ack, encode_reject
from turnwise.message import MAX_BODY_BYTES, MAX_PROPERTIES_BYTES

CHANNEL = 1
FRAME_MAX = 50

Message = tuple[str, int, bool, BasicProperties, bytes]

properties = st.builds(
    BasicProperties,
    content_type=st.none() | st.text(max_size=20),
    headers=st.none() | st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=2),
    message_id=st.none() | st.text(max_size=20),
    timestamp=st.none() | st.integers(0, 2**40),
)
messages = st.tuples(
    # A few names, since the frames around a tag are recognised by those of the one before.
    st.sampled_from(["", "w", "worker-1", "ü" * 30]),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    properties,
    st.binary(),
)


def frames(
    tag: str, number: int, redelivered: bool, about: BasicProperties, body: bytes
) -> Iterator[bytes]:
    """A delivery as pika writes its frames."""
    method = spec.Basic.Deliver(tag, number, redelivered, "requests", "requests")
    yield frame.Method(CHANNEL, method).marshal()
    yield frame.Header(CHANNEL, len(body), about).marshal()
    for begin in range(0, len(body), FRAME_MAX):
        yield frame.Body(CHANNEL, body[begin : begin + FRAME_MAX]).marshal()


def others() -> st.SearchStrategy[bytes]:
    """Frames that are not for a consumer, of its channel and of others."""
    methods = (spec.Basic.CancelOk("c"), spec.Basic.Ack(7, True), spec.Channel.CloseOk())
    return st.sampled_from(
        [frame.Heartbeat().marshal()]
        + [frame.Method(channel, each).marshal() for each in methods for channel in (1, 2)]
        + [
            b"".join(frames("c", 1, False, BasicProperties(), b"other")).replace(
                b"\0\1", b"\0\2", 1
            )
        ]
    )


def read(pieces: Sequence[bytes]) -> list[Delivery | bytes]:
    got: list[Delivery | bytes] = []
    reader = Deliveries(CHANNEL, got.append, got.append)
    for piece in pieces:
        reader.read(piece)
    return got


@given(st.data(), st.lists(messages | others(), max_size=8))
def test_all_frames_arrive_in_order_wherever_the_stream_is_split(
    data: st.DataObject, wanted: list[Message | bytes]
) -> None:
    stream = b""
    expected: list[object] = []
    for each in wanted:
        if isinstance(each, bytes):
            stream += each
            expected += split(each)
        else:
            stream += b"".join(frames(*each))
            _, number, redelivered, about, body = each
            expected.append((number, b"".join(about.encode()), body, redelivered))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    got = read(pieces)
    assert [
        (each.tag, each.properties, each.body, each.redelivered)
        if isinstance(each, Delivery)
        else each
        for each in got
    ] == expected


def split(stream: bytes) -> Iterator[bytes]:
    """The single frames of a stream, as pika counts them."""
    while stream:
        size, _ = frame.decode_frame(stream)
        yield stream[:size]
        stream = stream[size:]


def whole(number: int, body: bytes) -> bytes:
    return b"".join(frames("worker-1", number, False, BasicProperties(message_id="c/7"), body))


@given(st.data(), st.integers(2, 5))
def test_a_backlog_with_a_flaw_is_read_as_its_single_frames_are(
    data: st.DataObject, count: int
) -> None:
    stream = bytearray().join(whole(number, bytes(10)) for number in range(1, count + 1))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] = data.draw(st.integers(0, 255))

    def read_by(reader: Deliveries, got: list[Delivery | bytes]) -> object:
        failure = None
        try:
            reader.read(bytes(stream))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
            failure = repr(error)
        return failure, [each[:3] if isinstance(each, Delivery) else each for each in got]

    quick: list[Delivery | bytes] = []
    one_by_one: list[Delivery | bytes] = []
    slow = Deliveries(CHANNEL, one_by_one.append, one_by_one.append)
    slow._read_whole = lambda data, begin, arrived: begin  # type: ignore[method-assign]  # noqa: ARG005, SLF001
    assert read_by(Deliveries(CHANNEL, quick.append, quick.append), quick) == read_by(
        slow, one_by_one
    )


def test_a_delivery_that_is_numbered_0_is_never_handed_over() -> None:
    """No broker sends that number, and an ack of it would settle all that is unsettled."""
    got = read([whole(1, b"one"), whole(0, b"zero")])
    assert [each.tag for each in got if isinstance(each, Delivery)] == [1]


def test_a_broken_frame_is_left_to_pika() -> None:
    [method, *_] = frames("c", 1, False, BasicProperties(), b"")
    broken = method[:-1] + b"\0"
    assert read([broken]) == [broken]


def test_more_body_than_announced_ends_the_connection() -> None:
    method, _, body = frames("c", 1, False, BasicProperties(), b"four")
    short = frame.Header(CHANNEL, 3, BasicProperties()).marshal()
    with pytest.raises(ValueError, match="1 more bytes"):
        read([method, short, body])


@given(st.integers(1, 2047), st.integers(1, 2**64 - 1))
def test_settlements_are_those_pika_would_send(channel: int, tag: int) -> None:
    ack, reject = spec.Basic.Ack(tag, True), spec.Basic.Reject(tag, False)
    assert encode_ack(channel, tag) == frame.Method(channel, ack).marshal()
    assert encode_reject(channel, tag) == frame.Method(channel, reject).marshal()


def test_nothing_of_an_oversized_message_is_buffered() -> None:
    about = BasicProperties(message_id="client/7")
    large = b"".join(frames("c", 1, False, about, bytes(MAX_BODY_BYTES + 1)))
    wordy = BasicProperties(headers={"x": "y" * MAX_PROPERTIES_BYTES})
    stream = large + b"".join(frames("c", 2, False, wordy, b"body"))
    stream += b"".join(frames("c", 3, False, about, bytes(MAX_BODY_BYTES)))
    first, second, third = read([stream])
    assert isinstance(first, Delivery)
    assert isinstance(second, Delivery)
    assert isinstance(third, Delivery)
    assert (first.tag, first.properties, first.body) == (1, b"", b"")
    assert "102401 bytes, more than the 102400 allowed" in str(first.problem)
    assert (second.tag, second.properties, second.body) == (2, b"", b"")
    assert str(second.problem).startswith("properties: take ")
    assert (third.tag, len(third.body), third.problem) == (3, MAX_BODY_BYTES, None)
