"""New requests, repeats and conflicts within a batch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from turnwise.message import Request
from worker.store import compare

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def request(counter: int, message: str = "hello", client: str = "alice") -> Request:
    return Request(client, counter, message, NOW)


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
def test_new_requests_are_distinguished_from_repeats_and_conflicts(
    stored: list[Request], brought: list[Request], outcomes: str, repeats: dict[int, int]
) -> None:
    found, again = compare(brought, {(r.client, r.counter): r.message for r in stored})
    assert "".join(outcome.name[0] for outcome in found) == outcomes
    assert {counter: count for (_, counter), count in again.items()} == repeats
