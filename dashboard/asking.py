"""Parses the fields of forms and addresses. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

MAX_COUNTER = 2**63 - 1

FIRST_TIME = datetime(1000, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC)
"""The times that the databases can hold."""


class Unclear(ValueError):
    """The input is invalid, or would read a whole table; the text says why."""


def time_in(text: str) -> datetime | None:
    """Parse a time, in UTC unless it says otherwise. Raises Unclear."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unclear(f"{text[:40]!r} is not a time; write 2026-01-31T23:59.") from None
    if not FIRST_TIME <= found <= LAST_TIME:
        raise Unclear(f"{text[:40]!r} is out of range: the years are 1000 to 9999.")
    return found


def span_in(form: Mapping[str, str]) -> tuple[datetime | None, datetime | None]:
    """Parse the fields ``since`` and ``until``. Raises Unclear."""
    since, until = (time_in(form.get(name, "").strip()) for name in ("since", "until"))
    if since and until and since > until:
        raise Unclear("This time range ends before it begins.")
    return since, until


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
        raise Unclear(f"{text[:40]!r} is not a counter.")
    return int(text)


def identity_in(text: str) -> tuple[str, int]:
    """Parse CLIENT/COUNTER. Raises Unclear."""
    client, _, counter = text.rpartition("/")
    number = counter_in(counter)
    if number is None or not name_in(client, 64, "a client"):
        raise Unclear(f"{text[:80]!r} is not the identity of a request: CLIENT/COUNTER.")
    return client, number


def within(path: str) -> str:
    """Return a path on this site, or ``/``: no redirect and no link may lead to another site.

    Browsers read a backslash as a slash, and skip tabs and line breaks.
    """
    good = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if good else "/"
