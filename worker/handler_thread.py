"""Relief for the loop: heartbeats are answered even while a turn takes long.

A turn runs in the loop's own thread, since passing each one to another thread would cost more than
the turn. Only when a turn takes long does another thread drive the loop meanwhile and enforce the
limits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from turnwise.database import Connection, Database, translating
from turnwise.errors import ExitCode, TurnwiseError
from turnwise.log import event
from turnwise.loop import Loop
from worker.handler import Turns, Work
from worker.handler_watch import STOP_TIMEOUT, Watch, Why
from worker.store import Outcome

log = logging.getLogger(__name__)

T = TypeVar("T")

RETURN_TIMEOUT = 10.0
"""Seconds for a handler to return after its database connection was ended."""

RELIEF_AFTER = 0.2
"""Seconds between two checks by the relief thread, which takes over the loop from a turn older than
this: after once to twice this long. Each check costs some microseconds."""


class Beside:
    """Takes turns while the loop keeps running, for at most ``stop_within`` seconds after a stop.

    If a handler does not return after its time is over, ends the process with STUCK: a thread
    cannot be ended from outside.
    """

    def __init__(
        self,
        loop: Loop,
        database: Database,
        name: str,
        turns: Turns,
        watch: Watch[Work],
        stop_within: float,
    ) -> None:
        self._loop = loop
        self._database = database
        self._name = name
        self._turns = turns
        self._watch = watch
        self._stop_within = stop_within
        self._lock = threading.Lock()
        self._begun: float | None = None
        """When the current turn began (monotonic)."""
        self._driving = False
        """Whether the relief thread drives the loop; it stops before the turn's thread resumes."""
        self._left = threading.Event()
        self._failure: BaseException | None = None
        """The error that the loop raised meanwhile."""
        self._ended_at: float | None = None
        threading.Thread(target=self._relieve, name="relief", daemon=True).start()

    def serve(self, works: Sequence[Work]) -> list[Outcome]:
        """Serve these; return their outcomes, or only the first ones if the worker must stop."""
        self._call(lambda: self._turns.serve(works))
        return [work.outcome for work in works if work.outcome is not None]

    def serve_due(self) -> bool:
        """Serve one failure that is due; return False if there is none."""
        return self._call(self._turns.serve_due)

    def look(self) -> float | None:
        """Return the seconds until a failure is due; None if there is none."""
        return self._call(self._turns.look)

    def close(self) -> None:
        """Discard the connection."""
        self._turns.close()

    # -- the turn's side

    def _call(self, job: Callable[[], T]) -> T:
        self._note_stop()
        with self._lock:
            self._begun = time.monotonic()
        try:
            return job()
        finally:
            self._loop.keep_signals()
            with self._lock:
                self._begun, driving = None, self._driving
            if driving:
                self._loop.add_callback(_wake)
                self._left.wait()
                self._left.clear()
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure

    def _note_stop(self) -> None:
        if self._loop.stopping and self._watch.stop_at is None:
            self._watch.stop_at = time.monotonic() + self._stop_within

    # -- the relief thread's side

    def _relieve(self) -> None:
        while True:
            time.sleep(RELIEF_AFTER)
            with self._lock:
                begun = self._begun
                take = begun is not None and time.monotonic() - begun > RELIEF_AFTER
                self._driving = take
            if take:
                self._drive()

    def _drive(self) -> None:
        self._ended_at = None
        while True:
            with self._lock:
                if self._begun is None:
                    self._driving = False
                    self._left.set()
                    return
            try:
                self._turn()
            except BaseException as error:  # noqa: BLE001 - raised in the turn's thread
                self._failure = self._failure or error
                time.sleep(RELIEF_AFTER)

    def _turn(self) -> None:
        self._note_stop()
        deadline = self._stuck_at or self._watch.deadline
        wait = 1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        self._loop.turn(min(1.0, wait))
        stuck_at = self._stuck_at
        if stuck_at is not None:
            if time.monotonic() >= stuck_at:
                self._give_up()
            return
        ended = self._watch.end()
        if ended is not None:
            why, number, connection = ended
            self._ended_at = time.monotonic()
            if why is not Why.HUNG:
                event(log, logging.WARNING, "handler.ended", worker=self._name, why=why.value)
            if connection is not None:
                self._elsewhere(lambda: self._kill(connection, number))

    @property
    def _patience(self) -> float:
        return STOP_TIMEOUT if self._loop.stopping else RETURN_TIMEOUT

    @property
    def _stuck_at(self) -> float | None:
        """The deadline for a handler to return after its connection was ended (monotonic)."""
        if self._ended_at is None or not self._watch.stuck:
            return None
        return self._ended_at + self._patience

    def _kill(self, connection: Connection, number: int) -> None:
        """Make the connection's own server kill it, and roll its transaction back."""
        hosts = (self._database, *self._database.others)
        here = (connection.host, connection.port)
        server = next(each for each in hosts if (each.host, each.port) == here)
        server = dataclasses.replace(server, others=(), _state={})
        with (
            contextlib.closing(server.connect(f"worker {self._name}")) as other,
            other.cursor() as cursor,
        ):
            cursor.execute("KILL %s", (number,))

    def _give_up(self) -> None:
        """Record how the attempt ended, and end the process."""
        work, why = self._watch.work, self._watch.why
        event(
            log,
            logging.ERROR,
            "handler.stuck",
            worker=self._name,
            message_id=work.request.message_id if work else None,
            seconds=self._patience,
        )
        if work is not None and why is not None:
            noting = self._elsewhere(lambda: self._turns.note_stuck(work, why))
            self._loop.wait(lambda: not noting.is_alive(), STOP_TIMEOUT)
        # The handler's thread would keep the interpreter from ending.
        os._exit(ExitCode.STUCK)

    def _elsewhere(self, work: Callable[[], None]) -> threading.Thread:
        """Run ``work`` in a third thread, ignoring its errors."""

        def run() -> None:
            with contextlib.suppress(TurnwiseError), translating(self._database):
                work()

        thread = threading.Thread(target=run, name="handler's end", daemon=True)
        thread.start()
        return thread


def _wake() -> None:
    """Do nothing: the callback itself wakes the loop."""
