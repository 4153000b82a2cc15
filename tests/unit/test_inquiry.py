"""What an idle consumer concludes from the answer to its question, without any broker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pika import BasicProperties

from turnwise import inquiry
from turnwise.deliveries import Delivery
from turnwise.inquiry import ASK_AFTER, Inquiry

Answer = Callable[..., None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the clock that an inquiry looks at: its ``now`` may be set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(inquiry, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def asked(arrived: deque[Delivery], clock: SimpleNamespace) -> tuple[Inquiry, Answer]:
    """Return an inquiry that has asked, and the callback that takes the broker's answer."""
    answers: list[Answer] = []
    raw = SimpleNamespace(
        add_callback=lambda *_, **__: None,
        basic_get=lambda _queue, callback: answers.append(callback),
    )
    channel: Any = SimpleNamespace(raw=raw, broker=SimpleNamespace(node="RabbitMQ"))
    one = Inquiry(channel, "requests", arrived)
    one.look()
    assert not answers
    clock.now += ASK_AFTER
    one.look()
    return one, answers[0]


def give(answer: Answer, tag: int) -> None:
    answer(None, SimpleNamespace(delivery_tag=tag, redelivered=False), BasicProperties(), b"m")


def test_a_message_for_an_idle_consumer_was_withheld(clock: SimpleNamespace) -> None:
    arrived: deque[Delivery] = deque()
    one, answer = asked(arrived, clock)
    give(answer, 7)
    assert one.withheld
    assert [delivery.tag for delivery in arrived] == [7]


def test_a_message_that_follows_a_delivery_was_not_withheld(clock: SimpleNamespace) -> None:
    """It takes its place behind the delivery, since the acks go by that order."""
    arrived: deque[Delivery] = deque()
    one, answer = asked(arrived, clock)
    arrived.append(Delivery(7, b"", b"m", clock.now))
    give(answer, 8)
    assert not one.withheld
    assert [delivery.tag for delivery in arrived] == [7, 8]


def test_a_message_that_comes_while_a_delivery_is_served_was_not_withheld(
    clock: SimpleNamespace,
) -> None:
    arrived: deque[Delivery] = deque()
    one, answer = asked(arrived, clock)
    clock.now += 0.1
    one.heard()
    give(answer, 8)
    assert not one.withheld
    assert [delivery.tag for delivery in arrived] == [8]
