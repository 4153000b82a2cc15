"""turnwise.outbox.send: what it executes, and what it refuses before executing anything."""

from __future__ import annotations

import pytest

from turnwise import outbox
from turnwise.errors import InvalidRequest
from turnwise.limits import MAX_MESSAGE_BYTES, MAX_QUEUE_LENGTH


class Recorder:
    """Notes what is executed."""

    def __init__(self) -> None:
        self.executed: list[tuple[str, tuple[str, str]]] = []

    def execute(self, statement: str, parameters: tuple[str, str], /) -> None:
        self.executed.append((statement, parameters))


@pytest.mark.parametrize(
    ("queue", "message"),
    [
        ("receipts", "hello"),
        ("a", ""),
        ("A-z_0.9" + "q" * (MAX_QUEUE_LENGTH - 7), "x" * MAX_MESSAGE_BYTES),
        ("receipts", "é" * (MAX_MESSAGE_BYTES // 2)),
        ("receipts", "\0'; DROP TABLE outbox; -- %s"),
    ],
)
def test_one_statement_carries_queue_and_message(queue: str, message: str) -> None:
    cursor = Recorder()
    outbox.send(cursor, queue, message)
    assert cursor.executed == [
        ("INSERT INTO outbox (queue, message) VALUES (%s, %s)", (queue, message))
    ]


@pytest.mark.parametrize(
    ("queue", "message", "said"),
    [
        ("", "m", "queue: must be 1 to 200 characters"),
        ("q" * (MAX_QUEUE_LENGTH + 1), "m", "queue: must be 1 to 200 characters"),
        ("two words", "m", "queue: must be 1 to 200 characters"),
        ("line\n", "m", "queue: must be 1 to 200 characters"),
        ("nul\0", "m", "queue: must be 1 to 200 characters"),
        ("quéue", "m", "queue: must be 1 to 200 characters"),
        (None, "m", "queue: must be a string"),
        ("q", "x" * (MAX_MESSAGE_BYTES + 1), "message: has 16385 bytes, more than the 16384"),
        ("q", "é" * (MAX_MESSAGE_BYTES // 2 + 1), "message: has 16386 bytes"),
        ("q", "\ud800", "message: holds a lone surrogate"),
        ("q", b"bytes", "message: must be a string"),
        ("q", {"a": 1}, "message: must be a string"),
        ("q", None, "message: must be a string"),
    ],
)
def test_an_unsendable_message_is_refused_before_the_insert(
    queue: str, message: str, said: str
) -> None:
    cursor = Recorder()
    with pytest.raises(InvalidRequest, match=said):
        outbox.send(cursor, queue, message)
    assert not cursor.executed
