"""The frames that are written directly are those that pika would write."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec
from pika.delivery_mode import DeliveryMode

from turnwise.message import MAX_COUNTER, Request
from turnwise.publishes import Envelope

NAMES = st.text("abcXYZ019._-", max_size=255)


def by_pika(
    channel: int, exchange: str, key: str, frame_max: int, body: bytes, properties: BasicProperties
) -> bytes:
    method = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True)
    most = frame_max - 8
    pieces = [body[begin : begin + most] for begin in range(0, len(body), most)]
    frames = [
        frame.Method(channel, method),
        frame.Header(channel, len(body), properties),
        *(frame.Body(channel, piece) for piece in pieces),
    ]
    return b"".join(each.marshal() for each in frames)


@given(
    channel=st.integers(1, 65535),
    exchange=NAMES,
    key=NAMES,
    frame_max=st.sampled_from([4096, 8192, 131072]),
    body=st.binary(max_size=500) | st.integers(4000, 20_000).map(bytes),
    headers=st.dictionaries(st.text("abc", min_size=1, max_size=5), st.integers(-9, 9), max_size=3),
)
@example(channel=1, exchange="e", key="k", frame_max=4096, body=b"", headers={})
@example(channel=1, exchange="e", key="k", frame_max=4096, body=bytes(4088), headers={})
@example(channel=1, exchange="e", key="k", frame_max=4096, body=bytes(4089), headers={})
@example(channel=1, exchange="e", key="k", frame_max=4096, body=bytes(2 * 4088), headers={})
def test_frames_are_those_of_pika(
    channel: int, exchange: str, key: str, frame_max: int, body: bytes, headers: dict[str, int]
) -> None:
    properties = BasicProperties(headers=headers, delivery_mode=DeliveryMode.Persistent.value)
    written = Envelope(channel, exchange, key, frame_max).write(body, b"".join(properties.encode()))
    assert written == by_pika(channel, exchange, key, frame_max, body, properties)


@given(
    counter=st.integers(1, MAX_COUNTER),
    message=st.text(st.characters(codec="utf-8"), max_size=300),
    sent_at=st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_a_request_is_published_as_pika_would(
    counter: int, message: str, sent_at: datetime
) -> None:
    request = Request("alice-abcdef", counter, message, sent_at)
    written = Envelope(1, "requests", "requests", 131072).write(
        request.encode(), request.encode_properties()
    )
    by = by_pika(1, "requests", "requests", 131072, request.encode(), request.properties())
    assert written == by


@pytest.mark.parametrize("size", [1, 131064, 131065, 500_000])
def test_no_agreed_size_means_pikas_own(size: int) -> None:
    body = bytes(size)
    assert Envelope(1, "e", "k", 0).write(body, b"\0\0") == Envelope(1, "e", "k", 131072).write(
        body, b"\0\0"
    )
