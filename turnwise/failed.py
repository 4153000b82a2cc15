"""The table ``failures`` as operators see and change it: on the page, and by ``worker failed``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

DROPPED = "dropped"

COLUMNS = ", ".join(
    f"failures.{name}"
    for name in (
        "client",
        "counter",
        "message",
        "sent_at",
        "attempts",
        "deaths",
        "error",
        "traceback",
        "reason",
        "failed_at",
        "failed_by",
        "due_at",
    )
)
"""What ``read`` reads."""

# A failure noted in advance may remain for a moment after its request is served.
UNSERVED = (
    "NOT EXISTS (SELECT 1 FROM requests WHERE requests.client = failures.client"
    " AND requests.counter = failures.counter)"
)

# An operator has looked at it, so its attempts start over.
RETRY = (
    "attempts = 0, deaths = 0, due_at = UTC_TIMESTAMP(6),"
    " reason = IF(reason = 'died', 'failed', reason)"
)

# The row stays, so that the audit accounts for it and a repeat is not served.
DROP = (
    f"reason = '{DROPPED}', due_at = NULL, message = '', traceback = NULL,"
    " failed_at = UTC_TIMESTAMP(6)"
)


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that a handler did not serve. ``due_at`` is None if it is given up or dropped."""

    client: str
    counter: int
    message: str
    sent_at: datetime
    attempts: int
    deaths: int
    error: str
    traceback: str | None
    reason: str
    failed_at: datetime
    failed_by: str
    due_at: datetime | None

    @property
    def id(self) -> str:
        """Its identity: CLIENT/COUNTER."""
        return f"{self.client}/{self.counter}"

    @property
    def state(self) -> str:
        """``waiting``, ``given up`` or ``dropped``."""
        if self.due_at is not None:
            return "waiting"
        return DROPPED if self.reason == DROPPED else "given up"


def read(row: Sequence[Any]) -> Failed:
    """Return a row of COLUMNS as a value."""
    values: list[Any] = [
        value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for value in row
    ]
    return Failed(*values)
