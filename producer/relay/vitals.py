"""A relay's state and counters."""

from __future__ import annotations

from collections import Counter


class Vitals:
    """State and counters, written by the relay's main thread and read by others."""

    def __init__(self) -> None:
        self.connected = False
        """Whether it is connected to both servers, active or standing by."""
        self.at_work = False
        self.shifts = 0
        self.confirmed = 0
        self.invalid = 0
        self.stuck: dict[str, str] = {}
        """For each queue that accepts nothing, the reason."""
        self.lost: Counter[str] = Counter({"broker": 0, "database": 0})
        """How often a connection to a server was lost, or could not be made."""
