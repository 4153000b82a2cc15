"""What is retried, and after how long."""

from __future__ import annotations

import pytest

from turnwise.errors import Permanent, Transient
from turnwise.retry import LONGEST_WAIT, persist


def test_only_transient_errors_are_retried() -> None:
    waits: list[float] = []
    failures: list[str] = []
    errors = [Transient("a"), Transient("b"), Permanent("c")]

    def session(_progress: object) -> None:
        raise errors.pop(0)

    with pytest.raises(Permanent, match="c"):
        persist(session, sleep=waits.append, on_failure=lambda e, _: failures.append(str(e)))
    assert failures == ["a", "b"]
    assert len(waits) == 2


def test_waits_grow_to_a_limit_and_restart_after_progress() -> None:
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
