"""What a relay knows about itself: its state, and its counts."""

from __future__ import annotations

from collections import Counter


class Vitals:
    """Written by the relay's one thread, read by others."""

    def __init__(self) -> None:
        self.connected = False
        """Whether it has both servers, and works or stands by."""
        self.at_work = False
        self.shifts = 0
        self.confirmed = 0
        self.invalid = 0
        self.stuck: dict[str, str] = {}
        """Why each queue that takes nothing does so."""
        self.lost: Counter[str] = Counter({"broker": 0, "database": 0})
        """How often a connection to a server was lost, or could not be made."""
