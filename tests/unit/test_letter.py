"""What a dead letter reports, whoever published it."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest
from turnwise.letter import CONFLICT, INVALID, explain, identify, read, to_replay, was_returned
from turnwise.message import Request

VALID = Request("client", 1, "hello", datetime(2026, 1, 31, tzinfo=UTC)).encode()
DIED = datetime(2026, 2, 1, 12, tzinfo=UTC)


def properties(*deaths: Any, **more: Any) -> BasicProperties:
    return BasicProperties(headers={"x-death": list(deaths)}, **more)


def death(reason: Any = "rejected", queue: Any = "requests", **more: Any) -> dict[str, Any]:
    return {"reason": reason, "queue": queue, **more}


def delivery(body: bytes, properties: BasicProperties) -> Delivery:
    return Delivery(1, b"".join(properties.encode()), body, 0.0, size=len(body))


def test_it_is_explained_by_what_can_be_seen() -> None:
    def reason(body: bytes, properties: BasicProperties) -> str:
        return explain(body, properties, "requests")[0]

    assert reason(b"x", properties(death())) == INVALID
    assert reason(VALID, properties(death())) == CONFLICT
    assert reason(VALID, properties(death("delivery_limit"))) == "delivery_limit"
    assert reason(VALID, properties(death("maxlen"))) == "maxlen"
    assert reason(b"x", BasicProperties()) == INVALID


@pytest.mark.parametrize(
    "deaths",
    [
        "no list",
        7,
        None,
        [],
        [1, "two", None],
        [[]],
        [{}],
        [death(reason=None)],
        [death(reason=[1])],
        [death(reason={"a": 1})],
        [death(time="yesterday")],
        [death(queue=["requests"])],
    ],
)
def test_any_history_a_sender_writes_is_survived(deaths: Any) -> None:
    written = BasicProperties(headers={"x-death": deaths})
    assert read(delivery(VALID, written), "requests").reason == CONFLICT
    assert read(delivery(b"x", written), "requests").died_at is None


def test_the_brokers_entry_takes_precedence_over_a_senders() -> None:
    written = properties(
        death("delivery_limit", queue="another"), death(time=DIED), death("maxlen", time=7)
    )
    letter = read(delivery(VALID, written), "requests")
    assert (letter.reason, letter.died_at) == (CONFLICT, DIED)


def test_a_letter_is_safe_to_print() -> None:
    written = properties(death("\x1b[2J"), message_id="\x1b]0;title\x07")
    letter = read(delivery(b"\x1b[31m\xff\n", written), "requests")
    shown = (letter.reason, str(letter.message_id), letter.body)
    assert all(text.isprintable() for text in shown)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_a_letter(body: bytes, raw: bytes) -> None:
    brought = Delivery(1, raw, body, 0.0, size=len(body))
    letter = read(brought, "requests")
    assert letter.id == identify(brought)
    assert letter.size == len(body)


def test_a_replay_is_as_it_was_sent_but_not_in_anothers_name() -> None:
    written = BasicProperties(
        headers={
            "x-death": [death()],
            "x-first-death-queue": "requests",
            "x-delivery-count": 3,
            "mine": 1,
        },
        user_id="somebody",
        message_id="client/1",
        delivery_mode=2,
    )
    again = to_replay(delivery(VALID, written))
    assert again.headers == {"mine": 1}
    assert again.user_id is None
    assert (again.message_id, again.delivery_mode) == ("client/1", 2)


def test_an_unreadable_letter_is_not_replayed() -> None:
    with pytest.raises(InvalidRequest):
        to_replay(Delivery(1, b"\xff\xff\xff", VALID, 0.0))


def test_a_letter_that_cannot_be_re_encoded_is_listed_and_not_replayed() -> None:
    """pika reads a double as an integer of any size, and cannot write that."""
    header = b"\x01dd" + struct.pack(">d", 1e300)
    raw = b"\x20\x00" + struct.pack(">I", len(header)) + header
    strange = Delivery(1, raw, VALID, 0.0, size=len(VALID))
    assert read(strange, "requests").reason == INVALID
    with pytest.raises(InvalidRequest):
        to_replay(strange)


def test_an_oversized_letter_is_shown_without_its_content() -> None:
    problem = InvalidRequest("body", "has 1000000 bytes")
    about = b"".join(properties(death(time=DIED)).encode())
    large = Delivery(1, about, b"", 0.0, problem=problem, size=1_000_000)
    letter = read(large, "requests")
    assert letter.died_at == DIED
    assert (letter.reason, letter.detail, letter.size) == (INVALID, str(problem), 1_000_000)
    assert letter.id != read(large._replace(problem=InvalidRequest("body", "")), "requests").id
    assert was_returned(large)
    with pytest.raises(InvalidRequest):
        to_replay(large)


@pytest.mark.parametrize(
    ("headers", "returned"),
    [
        ({}, False),
        ({"x-delivery-count": 1}, True),  # RabbitMQ 3
        ({"x-delivery-count": 1, "x-acquired-count": 1}, False),  # RabbitMQ 4: where it died
        ({"x-delivery-count": 2, "x-acquired-count": 1}, True),
        ({"x-delivery-count": 1, "x-acquired-count": 2}, True),
        ({"x-delivery-count": "many"}, True),
    ],
)
def test_what_was_in_hand_before_is_known(headers: dict[str, Any], returned: bool) -> None:
    written = BasicProperties(headers={"x-death": [death()], **headers})
    assert was_returned(delivery(VALID, written)) is returned
