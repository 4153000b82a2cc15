"""The decisions that need no server: each is a pure function, or a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.pace import BATCH, Pace
from producer.window import Window
from turnwise.broker import Channel
from turnwise.database import parse_url
from turnwise.errors import InvalidRequest, Permanent, Transient
from turnwise.letter import CONFLICT, INVALID
from turnwise.message import Request
from turnwise.node import parse_urls
from turnwise.retry import LONGEST_WAIT, persist
from worker.settle import ACK, Reject, decide, settle
from worker.store import Outcome, compare

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def request(counter: int, message: str = "hello", client: str = "alice") -> Request:
    return Request(client, counter, message, NOW)


# -- the worker's verdict


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (Outcome.SERVED, None),
        (Outcome.REPEATED, None),
        (Outcome.CONFLICT, CONFLICT),
        (InvalidRequest("counter", "is missing"), INVALID),
    ],
)
def test_every_result_has_one_verdict(result: Outcome | InvalidRequest, reason: str | None) -> None:
    verdict = decide(result)
    assert (verdict.reason if isinstance(verdict, Reject) else None) == reason


class Calls(Channel):
    """Notes what the broker would be told."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int]] = []

    def ack(self, tag: int) -> None:
        self.made.append(("ack", tag))

    def reject(self, tag: int) -> None:
        self.made.append(("reject", tag))

    def flush(self) -> None:
        pass


@given(st.lists(st.booleans()))
def test_a_batch_is_settled_by_its_rejects_and_one_ack(good: Sequence[bool]) -> None:
    calls = Calls()
    bad = Reject(INVALID, "")
    settle(calls, [(tag, ACK if g else bad) for tag, g in enumerate(good, 1)])
    rejected = [("reject", tag) for tag, g in enumerate(good, 1) if not g]
    acked = [tag for tag, g in enumerate(good, 1) if g]
    assert calls.made == rejected + ([("ack", acked[-1])] if acked else [])


@pytest.mark.parametrize(
    ("stored", "brought", "outcomes", "repeats"),
    [
        ([], [request(1), request(2)], "SS", {}),
        ([request(1)], [request(1), request(2)], "RS", {1: 1}),
        ([request(1)], [request(1, "other")], "C", {}),
        ([], [request(1), request(1)], "SR", {1: 1}),
        ([], [request(1), request(1, "other"), request(1)], "SCR", {1: 1}),
        ([request(1)], [request(1), request(1)], "RR", {1: 2}),
        ([request(1)], [request(1, client="bob")], "S", {}),
        ([request(1)], [replace(request(1), sent_at=NOW + timedelta(days=1))], "R", {1: 1}),
    ],
)
def test_new_requests_are_told_from_repeats_and_conflicts(
    stored: list[Request], brought: list[Request], outcomes: str, repeats: dict[int, int]
) -> None:
    found, again = compare(brought, {(r.client, r.counter): r.message for r in stored})
    assert "".join(outcome.name[0] for outcome in found) == outcomes
    assert {counter: count for (_, counter), count in again.items()} == repeats


# -- the producer's window


def test_a_window_confirms_only_what_the_broker_took() -> None:
    window = Window()
    for counter in range(1, 8):
        window.published([counter])
    window.settle(3, multiple=True, taken=True)
    window.settle(6, multiple=False, taken=True)
    window.returned(5)
    window.settle(5, multiple=False, taken=True)  # the ack that follows a return
    window.settle(4, multiple=True, taken=False)
    assert window.take_confirmed() == [(1, 3), (6, 6)]
    assert window.take_confirmed() == []
    assert (len(window), window.refused) == (1, 2)


@given(st.data())
def test_whatever_the_order_each_request_is_settled_once(data: st.DataObject) -> None:
    counters = sorted(data.draw(st.sets(st.integers(1, 100), min_size=1)))
    window = Window()
    for counter in counters:
        window.published([counter])
    taken: dict[int, bool] = {}
    while window:
        tag = data.draw(st.integers(1, len(counters)))
        multiple, good = data.draw(st.booleans()), data.draw(st.booleans())
        for each in range(1 if multiple else tag, tag + 1):
            taken.setdefault(counters[each - 1], good)
        window.settle(tag, multiple=multiple, taken=good)
    confirmed = [c for first, last in window.take_confirmed() for c in range(first, last + 1)]
    assert sorted(confirmed) == [counter for counter in counters if taken[counter]]
    assert window.refused == len(counters) - len(confirmed)


# -- the producer's pace


def test_a_quantum_is_kept_without_drift() -> None:
    pace = Pace(1.0, None, now=100.0)
    sent = []
    now = 100.0
    for lateness in (0.0, 0.3, 0.0, 0.9, 0.0):
        now += pace.wait(now) + lateness
        assert pace.due(now) == 1
        sent.append(round(now - lateness, 6))
    assert sent == [100.0, 101.0, 102.0, 103.0, 104.0]


def test_a_short_delay_is_made_up_for_and_a_long_one_is_not() -> None:
    pace = Pace(0.01, None, now=0.0)
    assert pace.due(0.0) == 1
    assert pace.due(0.055) == 5
    assert pace.due(0.058) == 0
    assert pace.due(3600.0) == 11  # not 360,000


def test_a_count_is_kept() -> None:
    pace = Pace(0, BATCH + 1, now=0.0)
    assert [pace.due(0.0), pace.finished, pace.due(0.0), pace.finished, pace.due(0.0)] == [
        BATCH, False, 1, True, 0,
    ]  # fmt: skip


# -- trying again


def test_only_what_may_work_in_a_moment_is_tried_again() -> None:
    waits: list[float] = []
    failures: list[str] = []
    errors = [Transient("a"), Transient("b"), Permanent("c")]

    def session(_progress: object) -> None:
        raise errors.pop(0)

    with pytest.raises(Permanent, match="c"):
        persist(session, sleep=waits.append, on_failure=lambda e, _: failures.append(str(e)))
    assert failures == ["a", "b"]
    assert len(waits) == 2


def test_waits_grow_to_a_limit_and_begin_anew_after_progress() -> None:
    bounds: list[float] = []
    progress_at = 20

    def session(progress: object) -> str:
        if len(bounds) == progress_at:
            assert callable(progress)
            progress()
        if len(bounds) == progress_at + 1:
            return "done"
        raise Transient

    assert persist(session, sleep=bounds.append, on_failure=lambda *_: None) == "done"
    assert max(bounds) <= LONGEST_WAIT
    assert bounds[0] <= 0.1
    assert max(bounds[8:20]) > 0.5
    assert bounds[20] <= 0.1


# -- addresses


def test_urls_name_nodes_without_their_password() -> None:
    nodes = parse_urls("amqp://u:p%40ss@one/v%2Fh, amqp://u:p%40ss@two:1234?heartbeat=5")
    assert [(n.host, n.port, n.virtual_host, n.heartbeat) for n in nodes] == [
        ("one", 5672, "v/h", 30),
        ("two", 1234, "/", 5),
    ]
    assert nodes[0].password == "p@ss"
    assert "p@ss" not in f"{nodes}{nodes[0]}"
    database = parse_url("mysql://u:p%40ss@db/counter_db")
    assert (database.host, database.port, database.name) == ("db", 3306, "counter_db")
    assert database.password == "p@ss"
    assert "p@ss" not in f"{database}{database!r}"


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "http://u:secret@host", "amqp://", "amqp://u:secret@host:99999",
        "amqp://u:secret@host:port", "amqp://u:secret@host?heartbeat=-1",
        "amqp://u:secret@host?cacertfile=x", "amqps://u:secret@host?cacertfile=/nonesuch",
        "amqps://u:secret@host?verify=perhaps", "amqp://u:secret@host?nonsense=1",
    ],
)  # fmt: skip
def test_an_amqp_url_that_is_none_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w+") as caught:
        parse_urls(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "postgres://u:secret@host/db", "mysql://u:secret@host",
        "mysql://u:secret@host/", "mysql://u:secret@host:99999/db", "mysql://host/db",
        "mysql://u:secret@host/db?nonsense=1", "mysql://u:secret@host/a/b",
    ],
)  # fmt: skip
def test_a_mysql_url_that_is_none_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w+") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)
