"""Reads how many rows of the table outbox wait, and which relay is active."""

from __future__ import annotations

import time

from dashboard.database import DatabaseSource
from turnwise import outbox_status

COUNTED = 10_000
"""The most waiting rows to count; beyond that the page shows 'at least'."""

SHARE = 0.05
"""The share of time that the counting may take. A long transaction of somebody else's makes it
slow: InnoDB then keeps the rows that the relay has removed."""


class Outbox(DatabaseSource):
    """Polls the table outbox on a connection of its own: a slow count delays nothing else."""

    server = "outbox"
    hurries = False
    pace = 1.0

    def look(self) -> float:
        """Update the board; return the seconds until the next poll."""
        begun = time.monotonic()
        with self._using() as connection:
            self._board.put_outbox(outbox_status.read(connection, COUNTED))
        return max(self.pace, (time.monotonic() - begun) / SHARE)
