"""The door's backlog, without a server: its two threads are one here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus

import pytest

from producer.door.answers import Problem
from producer.door.pending import Pending
from turnwise.loop import Loop
from turnwise.message import Request


def request(counter: int, message: str = "m") -> Request:
    return Request("client", counter, message, datetime.now(UTC))


class Desk:
    """Both ends of a Pending: HTTP's loop is asyncio's, AMQP's is turned by hand."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.pending = Pending(loop, limit=3)
        self.pending.resume()

    async def hand_over(self) -> None:
        await asyncio.sleep(0)
        self.loop.turn(0)

    async def publish(self, limit: int = 100) -> list[int]:
        await self.hand_over()
        return [number for number, *_ in self.pending.after(0, limit)]


@pytest.fixture
def desk() -> Iterator[Desk]:
    with contextlib.closing(Loop()) as loop:
        yield Desk(loop)


def test_a_confirm_answers_the_requests_of_its_ranges(desk: Desk) -> None:
    async def run() -> None:
        first, second, third = (desk.pending.submit(request(n)) for n in (1, 2, 3))
        assert await desk.publish(limit=2) == [1, 2]
        assert await desk.publish() == [3]
        assert await desk.publish() == []
        desk.pending.forget([(1, 1), (3, 3)])
        assert await first is None
        assert await third is None
        assert not second.done()
        assert desk.pending.under_way == 1

    asyncio.run(run())


def test_a_repeat_shares_the_answer_and_another_message_is_a_conflict(desk: Desk) -> None:
    async def run() -> None:
        first = desk.pending.submit(request(1))
        assert desk.pending.submit(request(1)) is first
        with pytest.raises(Problem) as caught:
            desk.pending.submit(request(1, "another"))
        assert caught.value.status == HTTPStatus.CONFLICT
        assert await desk.publish() == [1]
        desk.pending.forget([(1, 1)])
        await first
        # Over: whether it is a conflict now is the worker's to find.
        assert desk.pending.submit(request(1, "another")) is not first

    asyncio.run(run())


def test_requests_beyond_the_limit_are_refused_but_repeats_do_not_count(desk: Desk) -> None:
    async def run() -> None:
        for counter in (1, 2, 3):
            desk.pending.submit(request(counter))
        desk.pending.submit(request(3))
        with pytest.raises(Problem) as caught:
            desk.pending.submit(request(4))
        assert caught.value.status == HTTPStatus.TOO_MANY_REQUESTS

    asyncio.run(run())


def test_a_refusal_answers_all_pending_and_all_later_requests(desk: Desk) -> None:
    async def run() -> None:
        published, waiting = desk.pending.submit(request(1)), desk.pending.submit(request(2))
        assert await desk.publish(limit=1) == [1]
        on_its_way = desk.pending.submit(request(3))
        desk.pending.refuse("why")
        await desk.hand_over()
        assert [await each for each in (published, waiting, on_its_way)] == ["why"] * 3
        with pytest.raises(Problem, match="why"):
            desk.pending.submit(request(4))
        desk.pending.resume()
        assert await desk.publish() == [], "what was refused is not published"
        desk.pending.forget([(1, 1)])  # a late confirm
        assert desk.pending.under_way == 0

    asyncio.run(run())


def test_a_return_of_an_abandoned_request_affects_at_most_its_successor(desk: Desk) -> None:
    """A return carries only the identity. In doubt the later request is refused."""

    async def run() -> None:
        desk.pending.submit(request(1))
        assert await desk.publish() == [1]
        desk.pending.refuse("why")
        await asyncio.sleep(0)
        assert desk.pending.number("client/1") == 0
        desk.pending.resume()
        again = desk.pending.submit(request(1))
        assert await desk.publish() == [2]
        assert desk.pending.number("client/1") == 2
        desk.pending.forget([(1, 1)])
        assert desk.pending.number("client/1") == 2
        await asyncio.sleep(0)
        assert not again.done(), "that confirm was of the one before"

    asyncio.run(run())


def test_it_is_stalled_while_requests_wait_and_none_is_confirmed(desk: Desk) -> None:
    async def run() -> None:
        assert not desk.pending.stalled(0)
        for counter in (1, 2):
            desk.pending.submit(request(counter))
        await desk.publish()
        assert desk.pending.stalled(0)
        assert not desk.pending.stalled(60)
        desk.pending.forget([(1, 2)])
        assert not desk.pending.stalled(0)

    asyncio.run(run())
