"""Invalid rows: reported, skipped, and checked again after a while.

The table's constraints reject such rows, unless an operator switches the constraints off.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence

from producer.relay.batch import Batch, Range
from producer.relay.line import Invalid, Row
from producer.relay.vitals import Vitals
from turnwise.errors import InvalidRequest
from turnwise.log import event

log = logging.getLogger(__name__)

AGAIN = 5.0
"""Seconds until such rows are checked again: they may have been repaired or removed."""


class Aside:
    """The rows that a relay has set aside. Some are numbered already, and keep their number."""

    def __init__(self, vitals: Vitals) -> None:
        self.look_at = math.inf
        """When to take() them, on the monotonic clock."""
        self._vitals = vitals
        self._left_out: set[int] = set()
        self._kept: dict[int, Batch] = {}
        self._reported: set[int] = set()

    @property
    def ranges(self) -> Iterator[Range]:
        """The rows that need not be read before ``look_at``."""
        return ((each, each) for each in (*self._left_out, *self._kept))

    def leave_out(self, invalid: Iterable[Invalid]) -> None:
        """Set aside rows that have no number and need none."""
        for row, error in invalid:
            self._left_out.add(row.id)
            self._report(row, error)

    def keep(self, batch: Batch, invalid: Iterable[Invalid]) -> None:
        """Set aside rows of a recorded batch. Once repaired, they are sent with the same number."""
        for row, error in invalid:
            self._kept[row.id] = batch
            self._report(row, error, number=batch.first)

    def take(self) -> Sequence[Batch]:
        """Forget all rows; return the batches of the numbered ones."""
        batches = list(self._kept.values())
        self._left_out.clear()
        self._kept.clear()
        self.look_at = math.inf
        return batches

    def count(self) -> None:
        """Record the number of rows set aside, and schedule the next check."""
        self._vitals.invalid = len(self._left_out) + len(self._kept)
        if self._vitals.invalid and self.look_at == math.inf:
            self.look_at = time.monotonic() + AGAIN

    def _report(self, invalid: Row, error: InvalidRequest, **more: object) -> None:
        if invalid.id in self._reported:
            return
        self._reported.add(invalid.id)
        event(
            log, logging.ERROR, "row.invalid", id=invalid.id, queue=invalid.queue, error=error,
            advice="correct or delete it in the table outbox; other rows are published meanwhile",
            **more,
        )  # fmt: skip
