"""Parses the fields of forms and addresses. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

MAX_COUNTER = 2**63 - 1


class Unclear(ValueError):
    """The input is invalid, or would read a whole table; the text says why."""


def time_in(text: str) -> datetime | None:
    """Parse a time, in UTC unless it says otherwise. Raises Unclear."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Unclear(f"{text[:40]!r} is no time; write 2026-01-31T23:59.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def name_in(text: str, longest: int, what: str) -> str:
    """Parse the name of a client or a replica. Raises Unclear."""
    if text and not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{longest}}}", text, re.ASCII):
        raise Unclear(f"{text[:80]!r} cannot be the name of {what}: A-Z a-z 0-9 . _ - only.")
    return text


def counter_in(text: str) -> int | None:
    """Parse a counter. Raises Unclear."""
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or int(text) > MAX_COUNTER:
        raise Unclear(f"{text[:40]!r} is no counter.")
    return int(text)
