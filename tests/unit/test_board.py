"""The page's updates: what changed, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dashboard import answers
from dashboard.board import FOLLOWED_MOST, KEPT, Board
from dashboard.figures import Accounts, Found, Line, Queue, Served

START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def served(counter: int, by: str = "worker-1", deliveries: int = 1) -> Served:
    moment = datetime.fromtimestamp(START + counter, UTC)
    return Served("client", counter, "hello", 5, moment, moment, by, deliveries)


def state(board: Board, after: str = "") -> dict[str, Any]:
    return dict(json.loads(answers.state(board.view(), after)))


def audited(missing: int, resume_at: int) -> Accounts:
    line = Line("client", 9, 9 + missing, missing, 0, 0, resume_at, ())
    return Accounts(1, 9, missing, 0, 0, (line,), {"worker-1": 9})


def test_a_page_receives_only_what_changed() -> None:
    board = Board(["database"], Clock())
    board.put_requests([served(2), served(1)], START)
    first = state(board)
    assert [each["counter"] for each in first["requests"]] == [2, 1]
    assert not first["skipped"]
    assert state(board, first["sequence"])["requests"] == []
    board.put_requests([served(3), served(2, deliveries=2), served(1)], START)
    second = state(board, first["sequence"])
    assert [each["counter"] for each in second["requests"]] == [3, 2]
    assert not second["skipped"]
    board.put_requests([served(9), served(8)], START)
    assert state(board, second["sequence"])["skipped"]


def test_a_page_receives_what_another_process_may_not_have_seen() -> None:
    """Two processes look at the same database at different times; a browser asks either."""
    clock = Clock()
    one, other = Board(["database"], clock), Board(["database"], clock)
    one.put_requests([served(1)], clock.now)
    other.put_requests([served(1)], clock.now)
    cursor = state(one)["sequence"]
    clock.now += 60
    other.put_requests([served(2), served(1)], clock.now)  # the first has not looked since
    assert [each["counter"] for each in state(one, cursor)["requests"]] == []
    answer = state(other, cursor)
    assert 2 in [each["counter"] for each in answer["requests"]]
    # And back: the first one reports what it has seen since the other's answer.
    clock.now += 60
    one.put_requests([served(3), served(2), served(1)], clock.now)
    assert {3} <= {each["counter"] for each in state(one, answer["sequence"])["requests"]}
    # What both have known for long is not reported again.
    for board in (one, other, one, other):
        clock.now += 60
        board.put_requests([served(3), served(2), served(1)], clock.now)
    assert state(other, state(one)["sequence"])["requests"] == []


@pytest.mark.parametrize("cursor", ["", "0", "x-y-z", "nonsense", "5-abc", "-1", "9" * 99])
def test_a_page_with_a_meaningless_cursor_receives_everything(cursor: str) -> None:
    board = Board(["database"], Clock())
    board.put_requests([served(1)], START)
    assert state(board, cursor)["requests"]


def test_a_replica_is_listed_as_long_as_a_figure_includes_it() -> None:
    clock = Clock()
    board = Board(["database"], clock)
    board.put_requests([served(2, "b"), served(1, "a")], START)
    clock.now += KEPT + 1
    board.put_requests([served(3, "0"), served(2, "b")], clock.now)
    assert [each["name"] for each in state(board)["replicas"]] == ["0", "b"]


def test_a_replica_is_connected_gone_or_not_known() -> None:
    board = Board(["database", "broker"], Clock())
    board.put_requests([served(2, "b"), served(1, "a")], START)
    board.seen("broker")
    board.put_queue(Queue(0, 1, 1, 0, frozenset({"a"})))
    assert [each["consuming"] for each in state(board)["replicas"]] == [True, False]
    board.failed("broker", "it is gone")
    assert [each["consuming"] for each in state(board)["replicas"]] == [None, None]


def test_seconds_are_counted_from_the_last_one_that_was() -> None:
    clock = Clock()
    board = Board(["database"], clock)
    assert board.counted_from() == START - KEPT
    board.put_served(int(START) - 2, int(START) - 1, {int(START) - 2: {"a": 3}})
    assert board.counted_from() == START - 1
    [first, second] = state(board)["seconds"]
    assert (first["served"], second["served"]) == ({"a": 3}, {})
    clock.now += 10 * KEPT
    assert board.counted_from() == clock.now - KEPT
    board.put_served(int(clock.now), int(clock.now), {})
    assert len(state(board)["seconds"]) == 1


def test_a_gap_is_dated_from_when_the_resume_point_stopped() -> None:
    clock = Clock()
    board = Board(["audit"], clock)

    def gap_since(missing: int, resume_at: int) -> float | None:
        clock.now += 1
        board.put_audit(audited(missing, resume_at))
        [client] = state(board)["audit"]["clients"]
        since = client["gap_since"]
        return None if since is None else since - START

    assert gap_since(1, 5) == 1
    assert gap_since(1, 5) == 1
    assert gap_since(1, 6) == 3  # a worker held it
    assert gap_since(0, 10) is None
    assert gap_since(2, 10) == 5


def test_not_too_many_requests_are_followed() -> None:
    board = Board(["database"])
    for counter in range(FOLLOWED_MOST + 1):
        with pytest.raises(TimeoutError):
            board.follow(("client", counter), 0, lambda: None)
    assert len(board.followed()) == FOLLOWED_MOST
    board.put_followed({("client", 1): Found(served(1)), ("client", 2): Found()})
    hurried: list[int] = []
    assert board.follow(("client", 1), 0, lambda: hurried.append(1)) == Found(served(1))
    assert board.follow(("client", 2), 0, lambda: hurried.append(2)) == Found()
    assert hurried == []
