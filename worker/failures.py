"""The table ``failures``: requests that a handler did not serve, and when each is due again.

A row exists until its request is served. It is usually written when an attempt ends. If the attempt
may kill the process, the row is written before it: the attempt and a death are then counted in
advance, and the death is uncounted if the attempt ends in any other way.
"""

# Statements are built from this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

import random
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from turnwise.database import Connection, execute, fetch
from turnwise.handler import LONGEST_RETRY, Reject, Retry
from turnwise.message import Request

FAILED, REJECTED, TIMEOUT, DIED, DROPPED = "failed", "rejected", "timeout", "died", "dropped"

DEATHS = 3
"""A request that has ended its worker's process this often is given up."""

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 3600.0
"""Seconds between two attempts."""

_FACTOR = 3.0
"""How much longer each wait is than the one before. The ninth is an hour."""

_MOST_ERROR = 1000
_MOST_TRACEBACK = 10_000
"""Characters."""

_MOST_FRAMES = 50

_NO_TEXT = "(its text cannot be shown)"

_chance = random.Random()
"""Separate from the global generator, which a handler may seed."""

MOST_COUNTED = 10_000
"""The most failures that are counted. A figure this high means so many or more."""

_KEY = "WHERE client = %s AND counter = %s"
_KNOWN = (
    f"SELECT client, counter, IF(reason = '{DROPPED}', NULL, message) FROM failures"
    " WHERE client = %s AND counter IN %s"
)
_LOOK = f"SELECT attempts, deaths, reason, due_at IS NULL, message, failed_by FROM failures {_KEY}"
_COUNTED = f"SELECT attempts FROM failures {_KEY}"
_IN = "DATE_ADD(UTC_TIMESTAMP(6), INTERVAL %s SECOND)"
# A dropped failure has no message and is never due again, whatever is noted later. MySQL assigns
# the columns from left to right, so the reason comes last.
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
    f" {_KEY} AND reason = '{DIED}' AND due_at IS NOT NULL AND attempts >= %s"
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
# Both are read from the key alone, and bounded: a metric must not hold up the turn.
_COUNT = (
    "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM failures WHERE due_at IS NOT NULL"
    f" LIMIT {MOST_COUNTED}) AS waiting), (SELECT COUNT(*) FROM (SELECT 1 FROM failures"
    f" WHERE due_at IS NULL AND NOT {_DROPPED} LIMIT {MOST_COUNTED}) AS given_up)"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended, in one line; ``kind`` is its exception's type.

    The request is due again in ``due_in`` seconds. None: it is given up, or not decided yet.
    """

    reason: str
    kind: str
    error: str
    traceback: str | None = None
    due_in: float | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """A request whose next attempt, number ``attempts``, is noted in advance."""

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
    """A request that the table already records, so that this delivery needs nothing further.

    ``same``: whether the recorded content is the same.
    """

    same: bool


def wait(attempts: int) -> float:
    """Return the seconds to wait after so many attempts: longer each time, with jitter."""
    usual = SHORTEST_WAIT * _FACTOR ** min(attempts - 1, 20)
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, usual * _chance.uniform(0.8, 1.2)))


def failure_of(error: BaseException) -> Failure:
    """Describe the exception that ended an attempt. Pure, unless the exception's methods act."""
    try:
        return _failure_of(error)
    except BaseException:  # noqa: BLE001 - any access to the user's class may raise
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
    # Skip the frame that called the handler.
    begin = error.__traceback__.tb_next if error.__traceback__ else None
    lines = traceback.format_exception(type(error), error, begin, limit=-_MOST_FRAMES)
    trace = _printable("".join(lines))[-_MOST_TRACEBACK:]
    return Failure(FAILED, kind, _one_line(f"{kind}: {text}" if text else kind), trace)


def _text_of(value: object) -> str:
    try:
        return str(value)
    except BaseException:  # noqa: BLE001 - the user's __str__ may raise anything
        return _NO_TEXT


def timeout_of(limit: float) -> Failure:
    """Describe an attempt that took longer than ``limit`` seconds. Pure."""
    return Failure(TIMEOUT, "Timeout", f"the handler ran for more than {limit:g} s")


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _one_line(text: str) -> str:
    line = " ".join(_printable(text).split())
    return line if len(line) <= _MOST_ERROR else f"{line[: _MOST_ERROR - 3]}..."


def known(connection: Connection, requests: Sequence[Request]) -> dict[tuple[str, int], str | None]:
    """Return the messages of the requests that are in the table; None for a dropped one."""
    counters: dict[str, set[int]] = {}
    for request in requests:
        counters.setdefault(request.client, set()).add(request.counter)
    found: dict[tuple[str, int], str | None] = {}
    for client, wanted in counters.items():
        for row in fetch(connection, _KNOWN, client, tuple(wanted)):
            found[row[0], row[1]] = row[2]
    return found


def note(
    connection: Connection, request: Request, name: str, failure: Failure, counted: int = 0
) -> int:
    """Record the end of an attempt that was not noted in advance; return the attempts so far.

    ``counted``: what an earlier call returned for this attempt, if its commit was not confirmed.
    """
    identity = (request.client, request.counter)
    if counted:
        for attempts, *_, failed_by in fetch(connection, _LOOK, *identity):
            if attempts > counted or (attempts, failed_by) == (counted, name):
                return counted
    values = (failure.error, failure.traceback, failure.reason, name, failure.due_in)
    again = (failure.error, failure.traceback, name, failure.due_in, failure.reason)
    execute(connection, _NOTE + _NOTE_AGAIN, *_content(request), 1, 0, *values, *again)
    [(attempts,)] = fetch(connection, _COUNTED, *identity)
    return int(attempts)


def end(connection: Connection, request: Request, name: str, failure: Failure) -> None:
    """Record the end of an attempt that was noted in advance."""
    values = (failure.error, failure.traceback, failure.reason, name, failure.due_in)
    execute(connection, _END, *values, request.client, request.counter)


def put_off(connection: Connection, request: Request, name: str, noted: bool) -> None:
    """Make a request due for another worker at once. The attempt does not count.

    ``noted``: whether the attempt was noted in advance.
    """
    error = "a worker was asked to stop while it held this request"
    values = (error, None, FAILED, name, 0)
    again = (int(noted), int(noted), error, name, FAILED)
    execute(connection, _NOTE + _PUT_OFF, *_content(request), 0, 0, *values, *again)


def take_back(connection: Connection, attempts: Sequence[Noted]) -> None:
    """Uncount attempts noted in advance that were abandoned without a death, and commit."""
    for noted in attempts:
        identity = (noted.request.client, noted.request.counter)
        execute(connection, _TAKE_BACK, *identity, noted.attempts)
    connection.commit()


def clear(connection: Connection, request: Request) -> None:
    """Remove the row of a request that is served."""
    execute(connection, _DELETE, request.client, request.counter)


def begin_redelivered(
    connection: Connection, request: Request, name: str, lease: float, intended: Noted | None = None
) -> Noted | GivenUp | Elsewhere:
    """Note in advance the attempt of a redelivered request, which may have ended a process before.

    It must be known that it is not served. It is due in ``lease`` seconds, in case it is not
    redelivered again. The caller commits before the handler runs. ``intended``: what an earlier
    call returned, if its commit was not confirmed; the attempt then counts once all the same.
    """
    found = fetch(connection, _LOOK, request.client, request.counter)
    if not found:
        error = "a worker ended while it held this request"
        # Two attempts: the one that it may have ended, and the one that begins.
        values = (2, 2, error, None, DIED, name, lease)
        execute(connection, _NOTE, *_content(request), *values)
        return Noted(request, 2)
    [(attempts, deaths, reason, for_good, message, failed_by)] = found
    if reason != DIED or for_good:
        return Elsewhere(reason == DROPPED or message == request.message)
    if intended and (intended.attempts, name) == (attempts, failed_by):
        return intended
    return _begin(connection, request, name, lease, attempts, deaths)


def begin_due(
    connection: Connection, name: str, lease: float, intended: Noted | None = None
) -> Noted | GivenUp | None:
    """Note in advance the attempt of the longest-due request that no other worker has locked.

    Returns None if nothing is due. The caller commits before the handler runs. ``intended``: as in
    begin_redelivered().
    """
    if intended is not None:
        identity = (intended.request.client, intended.request.counter)
        for attempts, *_, failed_by in fetch(connection, _LOOK, *identity):
            if (intended.attempts, name) == (attempts, failed_by):
                return intended
    for client, counter, message, sent_at, attempts, deaths in fetch(connection, _DUE):
        request = Request(client, counter, message, sent_at.replace(tzinfo=UTC))
        return _begin(connection, request, name, lease, attempts, deaths)
    return None


def next_due(connection: Connection) -> float | None:
    """Return the seconds until a failure is due, below 0 if one is overdue; None without any."""
    [(seconds,)] = fetch(connection, _NEXT)
    return None if seconds is None else float(seconds)


def count(connection: Connection) -> tuple[int, int]:
    """Return how many failures wait and how many are given up, up to MOST_COUNTED of each."""
    [(waiting, given_up)] = fetch(connection, _COUNT)
    return int(waiting), int(given_up)


def _begin(
    connection: Connection, request: Request, name: str, lease: float, attempts: int, deaths: int
) -> Noted | GivenUp:
    identity = (request.client, request.counter)
    if deaths >= DEATHS:
        error = f"it has ended {deaths} workers, or none of them reported how it went"
        execute(connection, _GIVE_UP, deaths, error, DIED, name, *identity)
        return GivenUp(request, attempts, error)
    execute(connection, _BEGIN, name, lease, *identity)
    return Noted(request, attempts + 1)


def _content(request: Request) -> tuple[str, int, str, datetime]:
    return request.client, request.counter, request.message, request.sent_at.replace(tzinfo=None)
