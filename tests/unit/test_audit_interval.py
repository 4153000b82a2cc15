"""How often the page runs its audit."""

from __future__ import annotations

import math

import pytest

from dashboard.database import interval


@pytest.mark.parametrize("took", [0.01, 1.0, 60.0])
def test_an_audit_takes_a_twentieth_of_the_time_however_long_it_takes(took: float) -> None:
    assert took / interval(took, math.inf) == pytest.approx(0.05)
    assert took / interval(took, took) == pytest.approx(0.05)


def test_a_stalled_database_does_not_delay_the_next_audit() -> None:
    assert interval(20.0, 0.1) == pytest.approx(2.0)
    assert interval(0.1, 20.0) == pytest.approx(2.0)
