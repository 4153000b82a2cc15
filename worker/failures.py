"""The table ``failures``: requests that a handler did not serve, and when each is due again.

A row exists while a request is not served. It is written together with the end of an attempt, or,
where the attempt may end the process, before it: then the attempt and a death are counted in
advance, and the death is taken back when the attempt has ended in any other way.
"""

# Statements are put together of this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

import random
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from turnwise.database import Connection
from turnwise.handler import LONGEST_RETRY, Reject, Retry
from turnwise.message import Request

FAILED, REJECTED, TIMEOUT, DIED, DROPPED = "failed", "rejected", "timeout", "died", "dropped"

DEATHS = 3
"""After so many ends of its process a request is given up."""

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 3600.0
"""Seconds between two attempts."""

_FACTOR = 3.0
"""How much longer each wait is than the one before: the ninth is an hour."""

_MOST_ERROR = 1000
_MOST_TRACEBACK = 10_000
"""Characters."""

_MOST_FRAMES = 50

_NO_TEXT = "(its text cannot be shown)"

_chance = random.Random()
"""Not the one that a handler may seed."""

MOST_COUNTED = 10_000
"""How many failures are counted at most; the figures then mean so many, or more."""

_KEY = "WHERE client = %s AND counter = %s"
_KNOWN = (
    f"SELECT client, counter, IF(reason = '{DROPPED}', NULL, message) FROM failures"
    " WHERE client = %s AND counter IN %s"
)
_LOOK = f"SELECT attempts, deaths, reason, due_at IS NULL, message FROM failures {_KEY}"
_IS_SERVED = f"SELECT 1 FROM requests {_KEY}"
_IN = "DATE_ADD(UTC_TIMESTAMP(6), INTERVAL %s SECOND)"
# What was dropped has no message any more, and is never due again, whoever notes what of it. The
# columns are set from left to right: the reason goes last.
_DROPPED = f"reason = '{DROPPED}'"
_NOTE = (
    "INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error, traceback,"
    f" reason, failed_by, due_at, failed_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, {_IN},"
    " UTC_TIMESTAMP(6))"
)
_NOTE_AGAIN = (
    " ON DUPLICATE KEY UPDATE attempts = attempts + 1, error = %s, traceback = %s, failed_by = %s,"
    f" due_at = IF({_DROPPED}, NULL, {_IN}), failed_at = UTC_TIMESTAMP(6),"
    f" reason = IF({_DROPPED}, reason, %s)"
)
_BEGIN = (
    "UPDATE failures SET attempts = attempts + 1, deaths = deaths + 1, failed_by = %s,"
    f" due_at = IF({_DROPPED}, NULL, {_IN}) {_KEY}"
)
_END = (
    "UPDATE failures SET deaths = GREATEST(deaths - 1, 0), error = %s, traceback = %s,"
    f" reason = %s, failed_by = %s, due_at = {_IN}, failed_at = UTC_TIMESTAMP(6) {_KEY}"
    f" AND reason <> '{DROPPED}'"
)
_PUT_OFF = (
    " ON DUPLICATE KEY UPDATE attempts = GREATEST(attempts - %s, 0),"
    " deaths = GREATEST(deaths - %s, 0), error = %s, failed_by = %s,"
    f" due_at = IF({_DROPPED}, NULL, UTC_TIMESTAMP(6)), failed_at = UTC_TIMESTAMP(6),"
    f" reason = IF({_DROPPED}, reason, %s)"
)
_TAKE_BACK = (
    "UPDATE failures SET attempts = GREATEST(attempts - 1, 0), deaths = GREATEST(deaths - 1, 0)"
    f" {_KEY} AND reason = '{DIED}' AND due_at IS NOT NULL"
)
_GIVE_UP = (
    "UPDATE failures SET deaths = %s, error = %s, reason = %s, failed_by = %s, due_at = NULL,"
    f" failed_at = UTC_TIMESTAMP(6) {_KEY}"
)
_DELETE = f"DELETE FROM failures {_KEY}"
_DUE = (
    "SELECT client, counter, message, sent_at, attempts, deaths FROM failures"
    f" WHERE due_at <= UTC_TIMESTAMP(6) AND NOT {_DROPPED}"
    " ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED"
)
_NEXT = "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MIN(due_at)) / 1e6 FROM failures"
# Both from the key alone, and bounded: a figure must not hold up the turn.
_COUNT = (
    "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM failures WHERE due_at IS NOT NULL"
    f" LIMIT {MOST_COUNTED}) AS waiting), (SELECT COUNT(*) FROM (SELECT 1 FROM failures"
    f" WHERE due_at IS NULL AND NOT {_DROPPED} LIMIT {MOST_COUNTED}) AS given_up)"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended, in one line; ``kind`` is its exception's type.

    In ``due_in`` seconds it is due again. None: it is given up, or that is not decided yet.
    """

    reason: str
    kind: str
    error: str
    traceback: str | None = None
    due_in: float | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """A request whose attempt, the so-manieth, is noted in advance."""

    request: Request
    attempts: int


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A request that has ended its process too often."""

    request: Request
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A request that is in the table for good: nothing more to do about this delivery.

    ``same``: whether it has the same content there.
    """

    same: bool


def wait(attempts: int) -> float:
    """Return the seconds to wait after so many attempts: longer each time, never quite the same."""
    usual = SHORTEST_WAIT * _FACTOR ** min(attempts - 1, 20)
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, usual * _chance.uniform(0.8, 1.2)))


def failure_of(error: BaseException) -> Failure:
    """Return how an attempt ended that raised. Pure, but for what the exception does itself."""
    try:
        return _failure_of(error)
    except BaseException:  # noqa: BLE001 - the user's class may raise wherever it is looked at
        kind = type(error).__qualname__
        return Failure(FAILED, kind, _one_line(f"{kind}: {_NO_TEXT}"))


def _failure_of(error: BaseException) -> Failure:
    kind = type(error).__qualname__
    # Subclasses may not have called the constructor that sets these.
    reason = _text_of(getattr(error, "reason", error))
    if isinstance(error, Reject):
        return Failure(REJECTED, kind, _one_line(reason))
    if isinstance(error, Retry):
        after = getattr(error, "after", None)
        if not isinstance(after, int | float) or not 0 <= after <= LONGEST_RETRY:
            after = None
        return Failure(FAILED, kind, _one_line(f"{kind}: {reason}"), due_in=after)
    text = _text_of(error)
    # Without the frame that called the handler.
    begin = error.__traceback__.tb_next if error.__traceback__ else None
    lines = traceback.format_exception(type(error), error, begin, limit=-_MOST_FRAMES)
    told = _printable("".join(lines))[-_MOST_TRACEBACK:]
    return Failure(FAILED, kind, _one_line(f"{kind}: {text}" if text else kind), told)


def _text_of(value: object) -> str:
    try:
        return str(value)
    except BaseException:  # noqa: BLE001 - whatever the user's __str__ does
        return _NO_TEXT


def timeout_of(limit: float) -> Failure:
    """Return how an attempt ended that took too long. Pure."""
    return Failure(TIMEOUT, "Timeout", f"the handler was at work for more than {limit:g} s")


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _one_line(text: str) -> str:
    line = " ".join(_printable(text).split())
    return line if len(line) <= _MOST_ERROR else f"{line[: _MOST_ERROR - 3]}..."


def known(connection: Connection, requests: Sequence[Request]) -> dict[tuple[str, int], str | None]:
    """Return the messages of those of these requests that are in the table; None for dropped."""
    counters: dict[str, set[int]] = {}
    for request in requests:
        counters.setdefault(request.client, set()).add(request.counter)
    found: dict[tuple[str, int], str | None] = {}
    for client, wanted in counters.items():
        for row in _all(connection, _KNOWN, client, tuple(wanted)):
            found[row[0], row[1]] = row[2]
    return found


def note(connection: Connection, request: Request, name: str, failure: Failure) -> None:
    """Note an attempt that has ended, and was not noted in advance."""
    told = (failure.error, failure.traceback, failure.reason, name, failure.due_in)
    again = (failure.error, failure.traceback, name, failure.due_in, failure.reason)
    _run(connection, _NOTE + _NOTE_AGAIN, *_content(request), 1, 0, *told, *again)


def end(connection: Connection, request: Request, name: str, failure: Failure) -> None:
    """Note how an attempt ended that was noted in advance."""
    told = (failure.error, failure.traceback, failure.reason, name, failure.due_in)
    _run(connection, _END, *told, request.client, request.counter)


def put_off(connection: Connection, request: Request, name: str, noted: bool) -> None:
    """Leave a request to another worker, at once. The attempt does not count.

    ``noted``: whether the attempt was noted in advance.
    """
    error = "a worker was asked to stop while it had this request in hand"
    told = (error, None, FAILED, name, 0)
    again = (int(noted), int(noted), error, name, FAILED)
    _run(connection, _NOTE + _PUT_OFF, *_content(request), 0, 0, *told, *again)


def take_back(connection: Connection, requests: Sequence[Request]) -> None:
    """Uncount attempts that were noted in advance, and broken off without a death; commit that."""
    for request in requests:
        _run(connection, _TAKE_BACK, request.client, request.counter)
    connection.commit()


def clear(connection: Connection, request: Request) -> None:
    """Remove a request that is served."""
    _run(connection, _DELETE, request.client, request.counter)


def begin_redelivered(
    connection: Connection, request: Request, name: str, lease: float
) -> Noted | GivenUp | Elsewhere | None:
    """Note the attempt of a request that was delivered before: it may have ended a process then.

    None if it is served. It is due in ``lease`` seconds, in case nobody brings it again. Whoever
    calls it commits, before the handler runs.
    """
    identity = (request.client, request.counter)
    if _all(connection, _IS_SERVED, *identity):
        return None
    found = _all(connection, _LOOK, *identity)
    if not found:
        error = "a worker ended while it had this request in hand"
        # The one that it may have ended, and the one that begins.
        told = (2, 2, error, None, DIED, name, lease)
        _run(connection, _NOTE, *_content(request), *told)
        return Noted(request, 2)
    [(attempts, deaths, reason, for_good, message)] = found
    if reason != DIED or for_good:
        return Elsewhere(reason == DROPPED or message == request.message)
    return _begin(connection, request, name, lease, attempts, deaths)


def begin_due(connection: Connection, name: str, lease: float) -> Noted | GivenUp | None:
    """Note the attempt of the request that is due longest, and that nobody else has in hand.

    None if nothing is due. Whoever calls it commits, before the handler runs.
    """
    for client, counter, message, sent_at, attempts, deaths in _all(connection, _DUE):
        request = Request(client, counter, message, sent_at.replace(tzinfo=UTC))
        return _begin(connection, request, name, lease, attempts, deaths)
    return None


def next_due(connection: Connection) -> float | None:
    """Return the seconds until something is due, below 0 if it is; None if nothing ever is."""
    [(seconds,)] = _all(connection, _NEXT)
    return None if seconds is None else float(seconds)


def count(connection: Connection) -> tuple[int, int]:
    """Return how many wait, and how many are given up, up to MOST_COUNTED of each."""
    [(waiting, given_up)] = _all(connection, _COUNT)
    return int(waiting), int(given_up)


def _begin(
    connection: Connection, request: Request, name: str, lease: float, attempts: int, deaths: int
) -> Noted | GivenUp:
    identity = (request.client, request.counter)
    if deaths >= DEATHS:
        error = f"it has ended {deaths} workers, or none of them said how it went"
        _run(connection, _GIVE_UP, deaths, error, DIED, name, *identity)
        return GivenUp(request, attempts, error)
    _run(connection, _BEGIN, name, lease, *identity)
    return Noted(request, attempts + 1)


def _content(request: Request) -> tuple[str, int, str, datetime]:
    return request.client, request.counter, request.message, request.sent_at.replace(tzinfo=None)


def _run(connection: Connection, statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def _all(connection: Connection, statement: str, *values: object) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
