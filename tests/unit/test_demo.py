"""How the demo judges itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lab.demo import IN_HANDS, Break, Served, in_order

BEGUN = datetime(2026, 1, 31, tzinfo=UTC)


def served(*counters: int) -> list[Served]:
    return [
        Served("demo", counter, "hello", BEGUN + timedelta(seconds=place), "worker-1", 1)
        for place, counter in enumerate(counters)
    ]


def test_two_replicas_may_commit_out_of_order() -> None:
    rows = served(1, 2, 3, 5, 6, 4, 7)
    broken = Break("RabbitMQ was restarted", frozenset({1, 2, 3}))
    assert in_order(rows, IN_HANDS)
    assert broken.resumed_with(rows) == [5, 6, 4]
    assert "resumed with 5, 6, 4" in broken.tell(rows)


def test_the_demo_reports_where_serving_resumes() -> None:
    broken = Break("worker-2 was killed", frozenset({1, 2, 4}))
    assert broken.tell(served(1, 2, 4, 3, 5)) == (
        "after worker-2 was killed, serving resumed at 3, the first not served"
    )


def test_skipping_more_requests_than_the_replicas_hold_fails_the_demo() -> None:
    assert in_order(served(4, 1, 2, 3), IN_HANDS)
    assert not in_order(served(5, 1, 2, 3, 4), IN_HANDS)
