"""What a worker logs during a flood."""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import UTC, datetime

import pytest

from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest
from turnwise.loop import Loop
from turnwise.message import Request
from worker.remarks import LINES, Remarks
from worker.store import Outcome

REQUEST = Request("alice", 7, "hello", datetime.now(UTC))


def delivery(tag: int) -> Delivery:
    return Delivery(tag, REQUEST.encode_properties(), b"", 0.0)


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    return [(record.getMessage(), getattr(record, "fields", {})) for record in caplog.records]


def test_a_flood_of_bad_messages_is_counted_and_loses_no_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    bad = InvalidRequest("counter", "is missing")
    with contextlib.closing(Loop()) as loop:
        remarks = Remarks(loop, "w1")
        for _ in range(5):
            size = LINES // 2
            remarks.settled([delivery(n) for n in range(size)], [bad] * size, [bad] * size)
        remarks.settled([delivery(1)], [REQUEST], [Outcome.REPEATED])
        until = time.monotonic() + 20
        while len(caplog.records) <= LINES and time.monotonic() < until:
            loop.turn(0.1)
        remarks.settled([delivery(1)], [REQUEST], [Outcome.CONFLICT])
        remarks.close()
    logged = events(caplog)
    name, fields = logged[0]
    assert name == "request.dead_lettered"
    assert fields["message_id"] == "alice/7"
    assert fields["reason"] == "invalid"
    assert [name for name, _ in logged].count("request.dead_lettered") == LINES + 1
    assert logged[LINES] == (
        "requests.not_logged",
        {"dead_lettered": 5 * (LINES // 2) - LINES, "repeated": 1, "worker": "w1"},
    )
    assert logged[-1][1]["reason"] == "conflict"


def test_served_requests_are_logged_only_at_debug_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with contextlib.closing(Loop()) as loop:
        remarks = Remarks(loop, "w1")
        for level in (logging.INFO, logging.DEBUG):
            caplog.set_level(level)
            remarks.settled([delivery(1)], [REQUEST], [Outcome.SERVED])
    assert events(caplog) == [("request.served", {"message_id": "alice/7", "worker": "w1"})]
