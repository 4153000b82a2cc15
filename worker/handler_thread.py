"""The handler's thread, and the loop beside it: serves heartbeats, enforces the limits."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import pymysql

from turnwise.database import Database
from turnwise.errors import ExitCode, Stopped, TurnwiseError
from turnwise.log import event
from turnwise.loop import Loop
from worker.handler import Turns, Work
from worker.handler_watch import STOP_TIMEOUT, Watch, Why
from worker.store import Outcome

log = logging.getLogger(__name__)

T = TypeVar("T")

RETURN_TIMEOUT = 10.0
"""Seconds that a handler may go on when its database connection was ended."""


class HandlerStuck(TurnwiseError):
    """A handler did not return, though its time was over."""

    exit_code = ExitCode.STUCK


class Beside:
    """Has turns taken in a thread, while the loop goes on. ``stop_within``: seconds after a stop.

    Raises HandlerStuck when a handler does not return. The thread is lost then, and so is the
    process: no thread can be ended from outside.
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
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ended_at: float | None = None
        self._lost = False
        """Whether the thread is at something that nobody waits for."""
        threading.Thread(target=self._work, name="handler", daemon=True).start()

    def serve(self, works: Sequence[Work]) -> list[Outcome]:
        """Serve these; return what became of each. Of fewer, if the worker has to end."""
        self._call(lambda: self._turns.serve(works))
        return [work.outcome for work in works if work.outcome is not None]

    def serve_due(self) -> bool:
        """Serve one failure that is due; False if there is none."""
        return self._call(self._turns.serve_due)

    def look(self) -> float | None:
        """Return the seconds until a failure is due; None if there is none."""
        return self._call(self._turns.look)

    def close(self) -> None:
        """Throw the connection away, unless a handler has it still."""
        if not self._lost:
            self._call(self._turns.close)

    # -- the loop's side

    def _call(self, job: Callable[[], T]) -> T:
        results: list[T] = []
        errors: list[BaseException] = []
        over: list[bool] = []

        def run() -> None:
            try:
                results.append(job())
            except BaseException as error:  # noqa: BLE001 - raised again by the other thread
                errors.append(error)
            over.append(True)
            self._loop.add_callback(_wake)

        self._jobs.put(run)
        while not over:
            deadline = self._deadline()
            self._loop.turn(min(1.0, max(0.0, deadline - time.monotonic())))
            self._enforce()
            if self._watch.stop_at and time.monotonic() > self._watch.stop_at + 2 * STOP_TIMEOUT:
                self._lost = True
                raise Stopped
        self._ended_at = None
        if errors:
            raise errors[0]
        return results[0]

    def _deadline(self) -> float:
        if self._loop.stopping and self._watch.stop_at is None:
            self._watch.stop_at = time.monotonic() + self._stop_within
        now = time.monotonic()
        if self._ended_at is not None and self._watch.stuck:
            return self._ended_at + self._patience
        return self._watch.deadline or now + 1.0

    @property
    def _patience(self) -> float:
        return STOP_TIMEOUT if self._loop.stopping else RETURN_TIMEOUT

    def _enforce(self) -> None:
        now = time.monotonic()
        if self._ended_at is not None and self._watch.stuck:
            if now >= self._ended_at + self._patience:
                self._give_up()
            return
        ended = self._watch.end()
        if ended is not None:
            why, number = ended
            self._ended_at = now
            if why is not Why.HUNG:
                event(log, logging.WARNING, "handler.ended", worker=self._name, why=why.value)
            self._elsewhere(lambda: self._kill(number))

    def _kill(self, number: int) -> None:
        """Have the server end the connection, and roll back what it was at."""
        with (
            contextlib.closing(self._database.connect(f"worker {self._name}")) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("KILL %s", (number,))

    def _give_up(self) -> None:
        """Note how the attempt ended, and end everything."""
        self._lost = True
        patience, work, why = self._patience, self._watch.work, self._watch.why
        if work is not None and why is not None:
            noting = self._elsewhere(lambda: self._turns.note_stuck(work, why))
            self._loop.wait(lambda: not noting.is_alive(), STOP_TIMEOUT)
        raise HandlerStuck(
            f"the handler goes on, {patience:.0f} s after its database connection was ended; "
            "the worker ends, for its supervisor to start it anew"
        )

    def _elsewhere(self, work: Callable[[], None]) -> threading.Thread:
        """Have something done by another thread that may fail."""

        def run() -> None:
            with contextlib.suppress(pymysql.Error, TurnwiseError):
                work()

        thread = threading.Thread(target=run, name="handler's end", daemon=True)
        thread.start()
        return thread

    # -- the thread's side

    def _work(self) -> None:
        while True:
            self._jobs.get()()


def _wake() -> None:
    """The loop has been woken by being called back."""
