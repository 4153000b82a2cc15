"""Rows of ``requests``: the columns to select, and their values. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dashboard.figures import Served

PREVIEW = 300
"""Characters of a message that lists show."""

_SERVED_REST = "OCTET_LENGTH(requests.message), " + ", ".join(
    f"requests.{name}" for name in ("sent_at", "served_at", "served_by", "deliveries")
)
SERVED = f"requests.client, requests.counter, requests.message, {_SERVED_REST}"
SERVED_PREVIEW = (
    f"requests.client, requests.counter, LEFT(requests.message, {PREVIEW}), {_SERVED_REST}"
)


def served(row: tuple[Any, ...]) -> Served:
    """Return a row of SERVED or SERVED_PREVIEW as a value."""
    client, counter, message, size, sent_at, served_at, served_by, deliveries = row
    return Served(
        client, counter, message, size, utc(sent_at), utc(served_at), served_by, deliveries
    )


def utc(time: datetime) -> datetime:
    """Return a time from the database, marked as UTC."""
    return time.replace(tzinfo=UTC)
