"""Rows of ``requests`` and ``failures``: the columns to select, and their values. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dashboard.figures import Failure, Served

PREVIEW = 300
"""Characters of a message that lists show."""

_SERVED_REST = "OCTET_LENGTH(requests.message), " + ", ".join(
    f"requests.{name}" for name in ("sent_at", "served_at", "served_by", "deliveries")
)
SERVED = f"requests.client, requests.counter, requests.message, {_SERVED_REST}"
SERVED_PREVIEW = (
    f"requests.client, requests.counter, LEFT(requests.message, {PREVIEW}), {_SERVED_REST}"
)
FAILURE = ", ".join(
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


def served(row: tuple[Any, ...]) -> Served:
    """Return a row of SERVED or SERVED_PREVIEW as a value."""
    client, counter, message, size, sent_at, served_at, served_by, deliveries = row
    return Served(
        client, counter, message, size, utc(sent_at), utc(served_at), served_by, deliveries
    )


def failure(row: tuple[Any, ...]) -> Failure:
    """Return a row of FAILURE as a value."""
    (
        client,
        counter,
        message,
        sent_at,
        attempts,
        deaths,
        error,
        traceback,
        reason,
        failed_at,
        failed_by,
        due_at,
    ) = row
    return Failure(
        client=client,
        counter=counter,
        message=message,
        sent_at=utc(sent_at),
        attempts=attempts,
        deaths=deaths,
        error=error,
        traceback=traceback,
        reason=reason,
        failed_at=utc(failed_at),
        failed_by=failed_by,
        due_at=utc(due_at) if due_at else None,
    )


def utc(time: datetime) -> datetime:
    """Return a time from the database, marked as UTC."""
    return time.replace(tzinfo=UTC)
