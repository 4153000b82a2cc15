"""The loop: what is written before it waits."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from turnwise.errors import Stopped
from turnwise.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that watches nothing but itself."""
    with contextlib.closing(Loop()) as loop:
        yield loop


def test_buffered_data_is_sent_before_the_loop_waits(loop: Loop) -> None:
    """Sending may buffer more data, which is sent in the same turn."""
    happened: list[str] = []

    def send() -> None:
        happened.append("sent")
        loop.before_wait(lambda: happened.append("sent more"))

    loop.before_wait(send)
    loop.add_callback(lambda: happened.append("waited"))
    loop.turn(1)
    assert happened == ["sent", "sent more", "waited"]
    loop.turn(0)
    assert len(happened) == 3


def test_a_socket_is_watched_for_the_requested_events(loop: Loop) -> None:
    here, there = socket.socketpair()
    events: list[int] = []
    with here, there:
        loop.add_handler(here.fileno(), lambda _fd, event: events.append(event), Loop.READ)
        loop.turn(0)
        assert not events
        loop.update_handler(here.fileno(), Loop.READ | Loop.WRITE)
        loop.turn(1)
        assert events == [Loop.WRITE]
        loop.remove_handler(here.fileno())
        loop.turn(0)
        assert len(events) == 1


def test_a_grace_ends_every_wait(loop: Loop) -> None:
    loop.ask_to_stop(grace=0.2)
    assert loop.asked
    assert not loop.stopping
    begun = time.monotonic()
    assert loop.wait(lambda: True, 10)
    assert not loop.wait(lambda: False, 10)
    assert 0.2 <= time.monotonic() - begun < 5
    with pytest.raises(Stopped):
        loop.sleep(10)
    assert time.monotonic() - begun < 5


def test_without_a_grace_a_process_may_still_wait(loop: Loop) -> None:
    loop.ask_to_stop()
    assert loop.stopping
    begun = time.monotonic()
    assert not loop.wait(lambda: False, 0.1)
    assert time.monotonic() - begun >= 0.1
