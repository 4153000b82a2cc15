"""The request on the wire: its encoding, and that nothing else passes for one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from tests.malformed import MALFORMED, VALID
from turnwise.errors import InvalidRequest
from turnwise.limits import MAX_MESSAGE_BYTES
from turnwise.message import MAX_BODY_BYTES, MAX_COUNTER, Request

WRITTEN = json.dumps(VALID, separators=(",", ":")).encode()
assert Request.decode(WRITTEN).encode() == WRITTEN

requests = st.builds(
    Request,
    client=st.text("ABCXYZabcxyz0189._-", min_size=1, max_size=64),
    counter=st.integers(1, MAX_COUNTER),
    message=st.text(st.characters(exclude_categories=["Cs"]), max_size=4000),
    sent_at=st.datetimes(
        datetime(1970, 1, 1),  # noqa: DTZ001
        datetime(9999, 12, 31),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
)


@given(requests)
def test_decoding_gives_back_what_was_encoded(request: Request) -> None:
    assert Request.decode(request.encode(), request.properties()) == request


def read_strictly(body: bytes) -> Request | str:
    try:
        return Request.decode(body)
    except InvalidRequest as error:
        return str(error)


def read_as_delivered(body: bytes, properties: bytes) -> Request | str:
    try:
        return Request.receive(body, properties)
    except InvalidRequest as error:
        return str(error)


@given(requests)
def test_a_delivery_decodes_to_the_request_that_was_sent(request: Request) -> None:
    assert Request.receive(request.encode(), request.encode_properties()) == request


@given(requests, st.data())
def test_the_fast_decoder_accepts_nothing_that_the_strict_one_refuses(
    request: Request, data: st.DataObject
) -> None:
    body = bytearray(request.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 3))
        body[at : at + cut] = data.draw(
            st.binary(max_size=3)
            | st.sampled_from(
                [
                    b"\n",
                    b" ",
                    b'"',
                    b"0",
                    b"-",
                    b"e1",
                    b"\\u0041",
                    b"\\ud800",
                    b"T24",
                    b"Z",
                    b"\x7f",
                ]
            )
        )
    nothing_set = BasicProperties().encode()
    properties = b"".join(nothing_set)
    assert read_as_delivered(bytes(body), properties) == read_strictly(bytes(body))


@pytest.mark.parametrize(
    "body",
    [
        *(body for _, body, _ in MALFORMED),
        b'{"x":' + b"[" * 8000,
        b'{"client":"a",' + WRITTEN[1:],
        WRITTEN.replace(b'"counter":7', b'"counter":7.0'),
        WRITTEN.replace(b"Z", b"+00:00"),
        WRITTEN.replace(b"Z", b"+01:00"),
        WRITTEN.replace(b"2026", b"1969"),
    ],
)
def test_the_fast_decoder_refuses_malformed_bodies(body: bytes) -> None:
    said = read_as_delivered(body, b"".join(BasicProperties().encode()))
    assert isinstance(said, str)
    assert said == read_strictly(body)


@given(st.binary())
def test_no_bytes_make_decoding_raise_anything_but_its_own_error(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Request.decode(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "client": json_values,
            "counter": json_values,
            "message": json_values,
            "sent_at": json_values,
            "extra": json_values,
        },
    )
)
def test_no_json_makes_decoding_raise_anything_but_its_own_error(fields: dict[str, Any]) -> None:
    # A well-formed time is too unlikely for this to be a request by chance.
    with pytest.raises(InvalidRequest):
        Request.decode(json.dumps(fields).encode())


@given(requests, st.data())
def test_a_flipped_bit_is_refused_or_read_as_another_request(
    request: Request, data: st.DataObject
) -> None:
    body = bytearray(request.encode())
    position = data.draw(st.integers(0, len(body) - 1))
    body[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = Request.decode(bytes(body))
    except InvalidRequest:
        return
    assert decoded != request


@pytest.mark.parametrize(("name", "body", "field"), MALFORMED, ids=[m[0] for m in MALFORMED])
def test_malformed_bodies_are_refused_by_the_field_that_is_wrong(
    name: str, body: bytes, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Request.decode(body)
    assert caught.value.field == field, f"{name}: {caught.value}"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "sent_at",
    ["2026-01-31T23:59:59Z", "2026-01-31T23:59:59.5Z", "2024-02-29T00:00:00.000001Z"],
)
def test_other_clients_may_write_fewer_digits_of_a_second(sent_at: str) -> None:
    body = json.dumps(VALID | {"sent_at": sent_at}).encode()
    assert Request.decode(body).sent_at.tzinfo == UTC


def test_the_largest_message_fits_however_json_writes_it() -> None:
    for message in ("\x01" * MAX_MESSAGE_BYTES, "é" * (MAX_MESSAGE_BYTES // 2), "😀" * 4096):
        request = Request("c" * 64, MAX_COUNTER, message, datetime.now(UTC))
        escaped = json.dumps(json.loads(request.encode())).encode()
        assert len(escaped) <= MAX_BODY_BYTES
        assert Request.decode(escaped).message == message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content_type", "text/plain"),
        ("content_encoding", "gzip"),
        ("type", "response"),
        ("message_id", "client/8"),
    ],
)
def test_properties_must_not_contradict_the_body(name: str, value: str) -> None:
    body = json.dumps(VALID).encode()
    Request.decode(body, BasicProperties())
    with pytest.raises(InvalidRequest) as caught:
        Request.decode(body, BasicProperties(**{name: value}))
    assert caught.value.field == name


def test_the_properties_are_what_amqp_means_by_them() -> None:
    sent_at = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    properties = Request("alice", 7, "hello", sent_at).properties()
    assert properties.message_id == "alice/7"
    assert properties.delivery_mode == 2  # persistent
    assert properties.timestamp == 1769903999  # whole seconds
    assert properties.content_type == "application/json"


@given(requests)
def test_properties_on_the_wire_are_what_pika_would_send(request_: Request) -> None:
    assert request_.encode_properties() == b"".join(request_.properties().encode())
    assert Request.receive(request_.encode(), request_.encode_properties()) == request_


def test_other_properties_on_the_wire_are_checked_against_the_body() -> None:
    request = Request("alice", 7, "hello", datetime.now(UTC))
    more = request.properties()
    more.headers = {"x-delivery-count": 1}
    assert Request.receive(request.encode(), b"".join(more.encode())) == request
    for properties, field in (
        (Request("alice", 8, "", request.sent_at).encode_properties(), "message_id"),
        (b"", "properties"),
        (b"\xff" * 40, "properties"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            Request.receive(request.encode(), properties)
        assert caught.value.field == field
