"""Decides which ids to poll, so that the cost does not grow with what was sent. Pure.

Rows are deleted from the head of the table. InnoDB keeps deleted rows for as long as any open
transaction may see them, such as a backup that takes an hour, and a scan from the head walks over
all of them. But the head must be read too: rows of a long transaction become visible below rows
that were sent long ago.

So a poll starts at the head while that is quick. When it is slow, it starts a little below the
highest id seen, and the ids further down are swept in steps: one step with each poll, as wide as is
quick. No row is ever skipped; rows of long transactions wait for the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass

QUICK = 0.005
SLOW = 0.02
"""Seconds that an empty poll may take. Below QUICK, the next one reaches further; above SLOW, it
reaches only NEAR."""

PER_ROW = 0.0001
"""Additional seconds allowed for each row found."""

NEAR = 10_000
"""The least number of ids, below the highest one, that each poll covers."""


@dataclass(frozen=True, slots=True)
class Look:
    """A range of ids to read: above ``after``, up to and including ``through`` if that is set."""

    after: int
    through: int | None = None


class Sight:
    """Chooses the next range to read, adapting to how long the last ones took."""

    def __init__(self, highest: int, after: int) -> None:
        """Start with the ids above ``after``; ``highest`` is the highest id seen."""
        self._highest = highest
        self._reach: int | None = max(NEAR, highest - after) if after else None
        self._swept_from = 0  # the sweep goes down from here; 0: it restarts
        self._step = NEAR

    @property
    def after(self) -> int:
        """The id above which each poll starts."""
        return 0 if self._reach is None else max(0, self._highest - self._reach)

    @property
    def covers_all(self) -> bool:
        """Whether the next poll starts at the head."""
        return self.after == 0

    def begin_anew(self) -> None:
        """Start at the head again: rows that were left out before are wanted now."""
        self._reach = None

    def main(self) -> Look:
        """Return the range that holds new rows."""
        return Look(self.after)

    def looked(self, seconds: float, rows: int, highest: int | None) -> None:
        """Record how long the main poll took, how many rows it found, and their highest id."""
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
        """Return the next range to sweep; None if the main poll covers all ids."""
        if self.after == 0:
            self._swept_from = 0
            return None
        if self._swept_from == 0:
            self._swept_from = self.after
        return Look(max(0, self._swept_from - self._step), self._swept_from)

    def swept(self, seconds: float, rows: int, *, all_of_it: bool) -> None:
        """Record how long the sweep's step took, its number of rows, and whether those were all."""
        if not all_of_it:
            return  # repeat this step, now that those rows are known
        self._swept_from = max(0, self._swept_from - self._step)
        seconds -= rows * PER_ROW
        if seconds > SLOW:
            self._step = NEAR
        elif seconds < QUICK:
            self._step *= 2
