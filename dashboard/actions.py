"""The log of operators' actions: each is recorded before it begins, and as it progresses.

An action on thousands of items runs in a thread of this process. Its progress is stored in the
table, so that any page can show it, even after the process has ended halfway.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from dashboard import failures, rows
from dashboard.figures import Identity
from dashboard.lookup import Lookups
from turnwise.errors import ServerError, Transient, TurnwiseError
from turnwise.log import event
from turnwise.retry import persist

T = TypeVar("T")

log = logging.getLogger(__name__)

AT_ONCE = 2
"""The most actions at the same time."""

PAGE = 50
"""Actions on one page."""

SILENT_AFTER = 60
"""Seconds without progress after which an action counts as interrupted."""

COUNT_FOR = 20.0
"""The most seconds that an action counts before it begins."""

PATIENCE = 30.0
"""Seconds for which a step is repeated while the database cannot take it."""

_COLUMNS = (
    "id, begun_at, updated_at, ended_at, actor, address, action, selection, expected, done,"
    f" problem, ended_at IS NULL AND updated_at < UTC_TIMESTAMP(6) - INTERVAL {SILENT_AFTER} SECOND"
)
_LIST = f"SELECT {_COLUMNS} FROM page_actions WHERE id < %s ORDER BY id DESC LIMIT %s"  # noqa: S608
_ONE = f"SELECT {_COLUMNS} FROM page_actions WHERE id = %s"  # noqa: S608
_BEGIN = (
    "INSERT INTO page_actions (begun_at, updated_at, actor, address, action, selection, expected,"
    " done, problem) VALUES (UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), %s, %s, %s, %s, %s, 0, '')"
)
_PROGRESS = "UPDATE page_actions SET done = done + %s, updated_at = UTC_TIMESTAMP(6) WHERE id = %s"
_SET = "UPDATE page_actions SET done = %s, updated_at = UTC_TIMESTAMP(6) WHERE id = %s"
_EXPECT = "UPDATE page_actions SET expected = %s, updated_at = UTC_TIMESTAMP(6) WHERE id = %s"
_END = (
    "UPDATE page_actions SET problem = %s, updated_at = UTC_TIMESTAMP(6),"
    " ended_at = UTC_TIMESTAMP(6) WHERE id = %s"
)

_MOST_SELECTION = 4000
_MOST_PROBLEM = 1000


@dataclass(frozen=True, slots=True)
class Action:
    """A row of the log. ``expected`` is the number of items it was meant for; None if unknown."""

    id: int
    begun_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    actor: str
    address: str
    action: str
    selection: str
    expected: int | None
    done: int
    problem: str
    silent: bool


class TooMany(TurnwiseError):
    """Two actions are under way already; wait for one to end."""


class Actions:
    """Runs operators' actions, on an account that has the rights for them."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._running = threading.BoundedSemaphore(AT_ONCE)

    def begin(
        self,
        who: tuple[str, str],
        action: str,
        selection: object,
        expected: int | None,
        work: Callable[[Progress], None],
    ) -> int:
        """Record the action, start it, and return its number.

        ``who`` is a name and an address. Raises ServerError or TooMany, without starting anything.
        """
        if not self._running.acquire(blocking=False):
            raise TooMany
        try:
            described = json.dumps(selection, ensure_ascii=False)[:_MOST_SELECTION]
            with self._lookups.cursor() as cursor:
                cursor.execute(_BEGIN, (*who, action, described, expected))
                number = int(cursor.lastrowid)
            event(log, logging.INFO, "action.begun", id=number, action=action, actor=who[0])
            thread = threading.Thread(
                target=self._run, args=(number, work), name=f"action {number}", daemon=True
            )
            thread.start()
        except BaseException:
            self._running.release()
            raise
        return number

    def _run(self, number: int, work: Callable[[Progress], None]) -> None:
        problem = ""
        try:
            work(Progress(self._lookups, number))
        except ServerError as error:
            problem = str(error)
        except Exception as error:  # the log must show any failure
            log.exception("action %d", number)
            problem = f"the page failed: {error!r}"
        finally:
            self._running.release()
        event(log, logging.INFO, "action.ended", id=number, problem=problem)
        try:
            with self._lookups.cursor() as cursor:
                cursor.execute(_END, (problem[:_MOST_PROBLEM], number))
        except ServerError as error:
            event(log, logging.WARNING, "action.not_noted", id=number, problem=str(error))


class Progress:
    """Records an action's progress."""

    def __init__(self, lookups: Lookups, number: int) -> None:
        self._lookups = lookups
        self._number = number

    def set(self, done: int) -> None:
        """Record the number of items done. Raises ServerError."""
        with self._lookups.cursor() as cursor:
            cursor.execute(_SET, (done, self._number))

    def change_failures(
        self, what: str, wanted: failures.Filter, chosen: Sequence[Identity] | None
    ) -> None:
        """Retry or drop failures: the chosen ones, or all that match. Raises ServerError.

        Each step commits together with its progress. A step that fails for a moment, as by a
        deadlock with another page's action, is repeated.
        """
        if chosen is not None:
            self._persist(lambda cursor: self._change(cursor, what, wanted, chosen))
            return
        self._persist(lambda cursor: self._count(cursor, wanted))
        # From the latest back: new failures come before the ones already reached.
        before: str | None = ""

        def step(cursor: Any) -> str | None:
            identities, following = failures.step(cursor, wanted, before or "")
            self._change(cursor, what, wanted, identities)
            return following

        while before is not None:
            before = self._persist(step)

    def _persist(self, step: Callable[[Any], T]) -> T:
        """Run a step on a connection, and repeat it after Transient for PATIENCE seconds."""
        until = time.monotonic() + PATIENCE

        def attempt(_progress: object) -> T:
            with self._lookups.cursor() as cursor:
                return step(cursor)

        def give_up(error: Transient, wait: float) -> None:
            if time.monotonic() + wait > until:
                raise error

        return persist(attempt, sleep=time.sleep, on_failure=give_up)

    def _count(self, cursor: Any, wanted: failures.Filter) -> None:
        """Record how many match, so that the progress shows how many are left."""
        total, is_all = failures.count(cursor, wanted, COUNT_FOR)
        cursor.execute(_EXPECT, (total if is_all else None, self._number))

    def _change(
        self, cursor: Any, what: str, wanted: failures.Filter, identities: Sequence[Identity]
    ) -> None:
        cursor.connection.begin()
        done = failures.change(cursor, what, identities, wanted)
        cursor.execute(_PROGRESS, (done, self._number))
        cursor.connection.commit()


def latest(cursor: Any, before: int) -> list[Action]:
    """Return a page of the actions with numbers below ``before``, latest first."""
    cursor.execute(_LIST, (before, PAGE))
    return [_action(row) for row in cursor.fetchall()]


def one(cursor: Any, number: int) -> Action | None:
    """Return one action; None if there is no such action."""
    cursor.execute(_ONE, (number,))
    found = [_action(row) for row in cursor.fetchall()]
    return found[0] if found else None


def _action(row: tuple[Any, ...]) -> Action:
    number, begun_at, updated_at, ended_at, actor, address, action, selection, *rest = row
    expected, done, problem, silent = rest
    return Action(
        id=number,
        begun_at=rows.utc(begun_at),
        updated_at=rows.utc(updated_at),
        ended_at=rows.utc(ended_at) if ended_at else None,
        actor=actor,
        address=address,
        action=action,
        selection=selection,
        expected=expected,
        done=done,
        problem=problem,
        silent=bool(silent),
    )
