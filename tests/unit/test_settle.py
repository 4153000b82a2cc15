"""How each served request is settled with the broker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.broker import Channel
from turnwise.errors import InvalidRequest
from turnwise.letter import CONFLICT, INVALID
from worker.settle import ACK, Reject, decide, settle
from worker.store import Outcome


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
    """Records the acks and rejects for the broker."""

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
