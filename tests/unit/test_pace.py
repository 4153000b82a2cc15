"""When the next request is due."""

from __future__ import annotations

from producer.pace import BATCH, Pace


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
