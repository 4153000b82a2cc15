"""A look at the outbox finds each row once, wherever its two parts begin."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from producer.relay.batch import Range
from producer.relay.ledger import Charge, Ledger
from producer.relay.line import Row
from producer.relay.shift import Shift
from producer.relay.sight import SLOW, Look
from producer.relay.vitals import Vitals
from turnwise.broker import Broker

NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Table:
    """An outbox whose looks are slow; ``late`` becomes visible after the first of them."""

    def __init__(self, *ids: int, late: Sequence[int] = ()) -> None:
        self.ids = list(ids)
        self.late = list(late)

    def read(
        self, look: Look, limit: int, known: Sequence[Range], _stuck: Sequence[str]
    ) -> list[Row]:
        time.sleep(1.5 * SLOW)
        through = look.through or max(self.ids)
        found = [each for each in sorted(self.ids) if look.after < each <= through]
        self.ids += self.late
        self.late = []
        passed = {each for first, last in known for each in range(first, last + 1)}
        return [Row(each, "q", "m", NOW) for each in found if each not in passed][:limit]


def begin(table: Table, swept: int = 0) -> Shift:
    charge = Charge(epoch=1, highest=100_000, swept=swept, clients={}, batches=[], clusters={})
    return Shift(cast(Broker, None), cast(Ledger, table), charge, Vitals())


def look(table: Table, shift: Shift | None = None, limit: int = 1000) -> list[int]:
    return [row.id for row in (shift or begin(table))._look(limit)]  # noqa: SLF001


def test_a_sweep_that_reaches_into_the_slow_look_before_it_finds_no_row_again() -> None:
    assert look(Table(85_001, 85_002, 85_003)) == [85_001, 85_002, 85_003]


def test_rows_that_become_visible_between_the_two_looks_are_in_their_place() -> None:
    assert look(Table(85_003, late=[85_001])) == [85_001, 85_003]


def test_rows_far_below_are_found_though_each_look_finds_more_new_ones_than_it_takes() -> None:
    """Else they wait as long as there is a backlog."""
    table = Table(1, *range(100_001, 100_101))
    shift = begin(table, swept=90_000)
    looks = [look(table, shift, 10) for _ in range(15)]
    assert any(1 in found for found in looks)
    assert all(len(found) <= 10 for found in looks)
    assert all(set(range(100_001, 100_010)) <= set(found) for found in looks[1:])
