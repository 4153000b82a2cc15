"""Where in the outbox to look, so that each look costs the same however much was sent. Pure.

Rows are deleted from the head of the table. InnoDB keeps what is deleted for as long as any open
transaction may see it, a backup's of an hour for instance, and whoever looks from the table's head
walks over all of it. But one has to look there: a row of a long transaction becomes visible below
rows that were sent long ago.

So a look begins at the head while that is quick. When it is not, it begins a little below the
highest id that was seen, and what lies further down is swept in steps, one with each look, each as
wide as is quick. Nothing is ever left out; what a long transaction leaves waits for the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass

QUICK = 0.005
SLOW = 0.02
"""Seconds that a look at nothing may take: less than QUICK, the next one reaches further; more than
SLOW, it reaches NEAR only."""

PER_ROW = 0.0001
"""Seconds more for each row that is found."""

NEAR = 10_000
"""Ids, below the highest one, that each look covers at least."""


@dataclass(frozen=True, slots=True)
class Look:
    """Look at the ids above ``after``, up to ``through`` if that is set."""

    after: int
    through: int | None = None


class Sight:
    """Says where to look next, and learns from how long that took."""

    def __init__(self, highest: int, after: int) -> None:
        """Begin with the ids above ``after``; ``highest`` is the highest id that was seen."""
        self._highest = highest
        self._reach: int | None = max(NEAR, highest - after) if after else None
        self._swept_from = 0  # the sweep goes down from here; 0: it begins anew
        self._step = NEAR

    @property
    def after(self) -> int:
        """Where each look begins."""
        return 0 if self._reach is None else max(0, self._highest - self._reach)

    @property
    def covers_all(self) -> bool:
        """Whether the next look begins at the head."""
        return self.after == 0

    def begin_anew(self) -> None:
        """Look from the head again: rows are there that nobody wanted before."""
        self._reach = None

    def main(self) -> Look:
        """Return where new rows are."""
        return Look(self.after)

    def looked(self, seconds: float, rows: int, highest: int | None) -> None:
        """Note what the main look took, how many rows it found, and the highest id of them."""
        if highest is not None:
            self._highest = max(self._highest, highest)
        seconds -= rows * PER_ROW
        if seconds > SLOW:
            self._reach = NEAR
        elif seconds < QUICK and self._reach is not None:
            self._reach *= 2
            if self._reach >= self._highest:
                self._reach = None

    def sweep(self) -> Look | None:
        """Return where else to look this time; None if the main look covers all."""
        if self.after == 0:
            self._swept_from = 0
            return None
        if self._swept_from == 0:
            self._swept_from = self.after
        return Look(max(0, self._swept_from - self._step), self._swept_from)

    def swept(self, seconds: float, rows: int, *, all_of_it: bool) -> None:
        """Note what the sweep's step took, how many rows it found, and whether those were all."""
        if not all_of_it:
            return  # the same step again, now that those are known
        self._swept_from = max(0, self._swept_from - self._step)
        seconds -= rows * PER_ROW
        if seconds > SLOW:
            self._step = NEAR
        elif seconds < QUICK:
            self._step *= 2
