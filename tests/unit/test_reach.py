"""Which node each process tries first."""

from __future__ import annotations

from collections import Counter

import pytest

from turnwise.reach import home_of


@pytest.mark.parametrize("nodes", [2, 3, 5])
def test_numbered_replicas_are_spread_evenly(nodes: int) -> None:
    for first in (1, 8, 98):
        homes = {home_of(f"worker worker-{first + n}", nodes) for n in range(nodes)}
        # One more number of digits may make two of them meet.
        assert len(homes) >= nodes - 1
    assert {home_of(f"worker worker-{n}", nodes) for n in range(nodes)} == set(range(nodes))


def test_other_names_are_spread_as_by_chance() -> None:
    homes = Counter(home_of(f"worker web-{n * 7919 % 10**9:x}", 3) for n in range(3000))
    assert min(homes.values()) > 800


def test_each_name_has_one_home_node() -> None:
    assert home_of("worker a", 3) == home_of("worker a", 3)
    assert home_of("worker a", 1) == 0
