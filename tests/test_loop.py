"""The loop: what is written before it waits."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from turnwise.loop import Loop


@pytest.fixture
def ours() -> Iterator[socket.socket]:
    """A connected socket whose peer reads nothing."""
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        yield here


def test_a_write_is_tried_once_before_waiting(ours: socket.socket) -> None:
    """A socket that takes no more is watched, not asked again and again."""
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(bytes(65536))
    calls: list[int] = []
    with contextlib.closing(Loop()) as loop:

        def on_event(fd: int, events: int) -> None:
            calls.append(events)
            # As pika does over TLS, which wants to write and cannot.
            loop.update_handler(fd, Loop.READ | Loop.WRITE)

        loop.add_handler(ours.fileno(), on_event, Loop.READ)
        loop.update_handler(ours.fileno(), Loop.READ | Loop.WRITE)
        loop.turn(0)
        assert calls == [Loop.WRITE]
        loop.turn(0)
        assert calls == [Loop.WRITE]
        loop.remove_handler(ours.fileno())


def test_a_socket_that_is_closed_before_its_write_is_left_alone(ours: socket.socket) -> None:
    with contextlib.closing(Loop()) as loop:
        loop.add_handler(ours.fileno(), lambda *_: pytest.fail("called"), Loop.READ)
        loop.update_handler(ours.fileno(), Loop.READ | Loop.WRITE)
        loop.remove_handler(ours.fileno())
        loop.turn(0)


def test_what_is_gathered_before_waiting_may_ask_to_write(ours: socket.socket) -> None:
    """Both happen in one turn: gathering, then writing."""
    happened: list[str] = []
    with contextlib.closing(Loop()) as loop:
        loop.add_handler(ours.fileno(), lambda *_: happened.append("written"), Loop.READ)

        def gathered() -> None:
            happened.append("gathered")
            loop.update_handler(ours.fileno(), Loop.READ | Loop.WRITE)

        loop.before_wait(gathered)
        loop.turn(0)
        assert happened[:2] == ["gathered", "written"]
        loop.remove_handler(ours.fileno())
