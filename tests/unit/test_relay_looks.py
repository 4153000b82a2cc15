"""A look at the outbox finds each row once, wherever its two parts begin."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import cast

from producer.relay.ledger import Charge, Ledger
from producer.relay.line import Row
from producer.relay.shift import Shift
from producer.relay.sight import SLOW, Look
from producer.relay.vitals import Vitals
from turnwise.broker import Broker

NOW = datetime(2026, 1, 31)  # noqa: DTZ001 - as the driver returns it


class Table:
    """An outbox whose looks are slow; ``late`` becomes visible after the first of them."""

    def __init__(self, *ids: int, late: Sequence[int] = ()) -> None:
        self.ids = list(ids)
        self.late = list(late)

    def read(
        self, look: Look, limit: int, known: Sequence[int], _stuck: Sequence[str]
    ) -> list[Row]:
        time.sleep(1.5 * SLOW)
        through = look.through or max(self.ids)
        found = [each for each in sorted(self.ids) if look.after < each <= through]
        self.ids += self.late
        self.late = []
        return [Row(each, "q", "m", NOW) for each in found if each not in set(known)][:limit]


def look(table: Table) -> list[int]:
    charge = Charge(epoch=1, highest=100_000, swept=0, clients={}, batches=[], clusters={})
    shift = Shift(cast(Broker, None), cast(Ledger, table), charge, Vitals())
    return [row.id for row in shift._look(1000)]  # noqa: SLF001


def test_a_sweep_that_reaches_into_the_slow_look_before_it_finds_no_row_again() -> None:
    assert look(Table(85_001, 85_002, 85_003)) == [85_001, 85_002, 85_003]


def test_rows_that_become_visible_between_the_two_looks_are_in_their_place() -> None:
    assert look(Table(85_003, late=[85_001])) == [85_001, 85_003]
