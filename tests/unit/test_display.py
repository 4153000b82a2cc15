"""What a worker shows on a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from turnwise.loop import Loop
from turnwise.message import Request
from worker.display import LINES, Display


@pytest.fixture
def loop() -> Iterator[Loop]:
    with contextlib.closing(Loop()) as loop:
        yield loop


def requests(first: int, last: int, message: str = "hello") -> list[Request]:
    return [Request("alice", n, message, datetime.now(UTC)) for n in range(first, last + 1)]


def test_few_requests_get_a_line_each(loop: Loop) -> None:
    lines: list[str] = []
    display = Display(loop, lines.append)
    display.served(requests(1, 1))
    display.served(requests(2, 3, "x" * 100))
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "served  alice/1  hello",
        *(f"served  alice/{n}  {'x' * 60}…" for n in (2, 3)),
    ]


def test_many_requests_are_summed_up_once_a_second(loop: Loop) -> None:
    lines: list[str] = []
    display = Display(loop, lines.append)
    for n in range(100):
        display.served(requests(n * 500 + 1, n * 500 + 500))
    assert len(lines) == LINES
    assert loop.wait(lambda: len(lines) > LINES, 5)
    assert lines[-1].endswith(f"served  {50_000 - LINES:,} more, up to alice/50000")
    display.served(requests(50_001, 50_001))
    assert lines[-1].endswith("served  alice/50001  hello")


def test_a_message_cannot_control_the_terminal(loop: Loop) -> None:
    lines: list[str] = []
    Display(loop, lines.append).served(requests(1, 1, "\x1b[2J\rgone\nü"))
    assert lines[0].endswith("alice/1  \ufffd[2J\ufffdgone\ufffdü")
