"""The turn with a handler: claim the key, call the handler, commit.

A batch shares one commit. The fast path comes first: one statement claims all keys, the handler
runs for each request, and the batch commits. If an attempt fails, the transaction is rolled back
and the batch takes the careful path, with a savepoint for each request. If the server ends the
transaction, each request gets a transaction of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pymysql.constants import ER

from turnwise import outbox
from turnwise.database import Connection, Database, code_of
from turnwise.door import Door
from turnwise.errors import NotAllowed, Transient
from turnwise.handler import Handler
from turnwise.log import event
from turnwise.message import Request
from worker import failures
from worker.failures import Elsewhere, Failure, GivenUp, Noted, failure_of, timeout_of
from worker.handler_call import call
from worker.handler_claim import Claims
from worker.handler_connection import OwnConnection
from worker.handler_watch import Expired, Watch, Why
from worker.store import Outcome, claim
from worker.vitals import Vitals

log = logging.getLogger(__name__)

LOCKS_HELD = 0.5
"""Approximate seconds of handler work in one transaction. It then commits, and the rest of the
batch gets another one: until the commit, the rows it has changed are locked for all others."""

MOST_INTERRUPTED = 20
"""How often the server may end the transaction of one request, which rolls its row back each time.
After that it counts as the handler's failure: a statement too large, a lock that is never free."""

LEASE_MARGIN = 60.0
"""Seconds beyond the time limit until a held request is due for other workers."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A handler's limits: seconds for one call, and attempts until a request is given up."""

    time_limit: float
    max_attempts: int


@dataclass(slots=True)
class Work:
    """One request to serve; ``outcome`` is None until it is committed."""

    request: Request
    redelivered: bool = False
    outcome: Outcome | None = None
    noted: Noted | None = None
    """Set if its attempt was noted in advance."""
    intended: Noted | None = None
    """Set if its attempt may have been noted in advance: the commit may not be confirmed."""
    counted: int = 0
    """Its attempts with this one, once the commit that records the failure was tried."""
    failure: Failure | None = None
    """How its attempt ended, if that is still to be recorded."""
    put_off: bool = False
    """Whether its attempt was abandoned because the worker is stopping."""
    alone: bool = False
    """Whether it gets a transaction of its own."""
    interrupted: int = 0
    """How often the server ended its transaction while the handler was running."""


class _Failed(Exception):
    """The attempt of one request has failed, and its changes must be rolled back."""


class Turns:
    """Serves requests as ``name``, on a connection of its own.

    Every method raises Transient while the database is unavailable. Called again with the same
    work, it resumes after what was committed. No attempt is made twice, or counted twice.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        handler: Handler,
        terms: Terms,
        watch: Watch[Work],
        vitals: Vitals,
    ) -> None:
        self._database = database
        self._name = name
        self._handler = handler
        self._terms = terms
        self._watch = watch
        self._vitals = vitals
        self._claims = Claims(name)
        self._own = OwnConnection(database, name, terms.time_limit, watch)
        self._due: Work | None = None
        self._intended: Noted | None = None
        """The due failure whose attempt may have been noted: the commit was not confirmed."""
        self._lost: list[Noted] = []
        """Attempts noted in advance whose deliveries are void, though this process is alive."""
        self._usual = 0.05
        """Seconds that the handler usually takes."""

    # -- called by the loop

    def serve(self, works: Sequence[Work]) -> None:
        """Serve these in order, until all have an outcome or the watch's time is over."""
        try:
            if self._lost:
                self._own.use(lambda it: failures.take_back(it, self._lost))
                self._lost.clear()
            while pending := [work for work in works if work.outcome is None]:
                if self._watch.over() and not self._to_be_noted(pending[0]):
                    return
                self._own.use(lambda it: self._serve_first(it, pending))
        except Transient:
            for work in works:
                work.alone = True
            raise

    def lose(self, works: Sequence[Work]) -> None:
        """Drop requests whose deliveries are void; their noted attempts are uncounted later."""
        self._lost += [work.intended for work in works if work.intended and work.outcome is None]

    def serve_due(self) -> bool:
        """Serve the longest-due failure; return False if none is due."""
        if self._due is None:
            begun = self._own.use(self._begin_due)
            if begun is None:
                return False
            if isinstance(begun, GivenUp):
                return True
            self._due = Work(begun.request, noted=begun)
        self.serve([self._due])
        self._due = None
        return True

    def look(self) -> float | None:
        """Count the failures; return the seconds until the next is due, None if there is none."""
        return self._own.use(self._look)

    def close(self) -> None:
        """Discard the connection."""
        self._own.close()

    def note_stuck(self, work: Work, why: Why) -> None:
        """Record the end of an attempt whose handler still runs. For a thread that may fail."""
        with contextlib.closing(self._database.connect(f"worker {self._name}")) as connection:
            if why is Why.STOP:
                failures.put_off(connection, work.request, self._name, work.noted is not None)
            else:
                self._fail(work, timeout_of(self._terms.time_limit))
                if work.failure is not None:
                    self._note(connection, work, work.failure)

    # -- one transaction each

    def _serve_first(self, connection: Connection, pending: Sequence[Work]) -> None:
        first = pending[0]
        if first.put_off:
            failures.put_off(connection, first.request, self._name, first.noted is not None)
            connection.commit()
            first.outcome = Outcome.FAILED
        elif first.failure is not None:
            self._note(connection, first, first.failure)
            connection.commit()
            first.outcome = Outcome.FAILED
        elif first.redelivered and first.noted is None:
            self._begin_redelivered(connection, first)
        elif first.noted is not None or first.alone:
            self._serve_together(connection, [first])
        else:
            most = max(1, int(LOCKS_HELD / self._usual))
            together: list[Work] = []
            for work in pending[:most]:
                if work.redelivered or work.alone or work.failure or work.put_off:
                    break
                together.append(work)
            self._serve_together(connection, together)

    def _serve_together(self, connection: Connection, works: Sequence[Work]) -> None:
        """Serve them in one transaction, or set the failure of the one that failed."""
        outcomes = self._claim(connection, works)
        try:
            for work, outcome in zip(works, outcomes, strict=True):
                if outcome is Outcome.SERVED:
                    self._handle(connection, work)
                if work.noted is not None:
                    self._end_noted(connection, work, outcome)
        except _Failed:
            if connection.open:
                connection.rollback()
                if len(works) > 1:
                    self._serve_carefully(connection, works)
            return
        connection.commit()
        for work, outcome in zip(works, outcomes, strict=True):
            work.outcome = outcome

    def _serve_carefully(self, connection: Connection, works: Sequence[Work]) -> None:
        """Serve as many as LOCKS_HELD allows in one transaction, each behind a savepoint.

        A request that has already failed is not tried again; its failure is recorded.
        """
        done: list[tuple[Work, Outcome]] = []
        begun = time.monotonic()
        for work in works:
            connection.query("SAVEPOINT request")
            outcome = Outcome.FAILED
            try:
                if work.failure is None:
                    [outcome] = self._claims.each(connection, [work.request])
                    if outcome is Outcome.SERVED:
                        self._handle(connection, work)
            except _Failed:
                if not connection.open or work.failure is None:
                    return
                connection.query("ROLLBACK TO SAVEPOINT request")
                outcome = Outcome.FAILED
            if work.failure is not None:
                self._note(connection, work, work.failure)
            done.append((work, outcome))
            if time.monotonic() - begun > LOCKS_HELD:
                break
        connection.commit()
        for work, outcome in done:
            work.outcome = outcome

    def _begin_redelivered(self, connection: Connection, work: Work) -> None:
        # Wait for the key first. Another worker may hold it for long, and this one must not seem to
        # have been ended by the handler if something else ends it meanwhile.
        [outcome] = claim(connection, [work.request], self._name)
        if outcome is not Outcome.SERVED:
            connection.commit()
            work.outcome = outcome
            return
        connection.rollback()
        begun = self._note_redelivered(connection, work)
        if isinstance(begun, Noted):
            work.intended = begun
        connection.commit()
        match begun:
            case Noted():
                work.noted = begun
            case GivenUp():
                self._log_given_up(begun)
                work.outcome = Outcome.FAILED
            case Elsewhere(same):
                work.outcome = Outcome.FAILED if same else Outcome.CONFLICT

    def _note_redelivered(self, connection: Connection, work: Work) -> Noted | GivenUp | Elsewhere:
        lease = self._terms.time_limit + LEASE_MARGIN
        try:
            return failures.begin_redelivered(
                connection, work.request, self._name, lease, work.intended
            )
        except Exception as error:
            if code_of(error) != ER.DUP_ENTRY:
                raise
            raise Transient(f"another worker notes the same request: {error}") from error

    def _begin_due(self, connection: Connection) -> Noted | GivenUp | None:
        lease = self._terms.time_limit + LEASE_MARGIN
        begun = failures.begin_due(connection, self._name, lease, self._intended)
        self._intended = begun if isinstance(begun, Noted) else None
        connection.commit()
        self._intended = None
        if isinstance(begun, GivenUp):
            self._log_given_up(begun)
        return begun

    def _look(self, connection: Connection) -> float | None:
        self._vitals.failures_waiting, self._vitals.failures_given_up = failures.count(connection)
        seconds = failures.next_due(connection)
        connection.rollback()
        return seconds

    def _to_be_noted(self, work: Work) -> bool:
        """Return whether the request needs a record even after the last handler call."""
        if work.noted is not None and work.failure is None:
            work.put_off = True
        return work.put_off or work.failure is not None

    # -- parts of a transaction

    def _claim(self, connection: Connection, works: Sequence[Work]) -> list[Outcome]:
        requests = [work.request for work in works]
        if works[0].noted is not None:
            return claim(connection, requests, self._name)
        return self._claims.together(connection, requests)

    def _handle(self, connection: Connection, work: Work) -> None:
        """Call the handler. Raises _Failed, or the driver's error that ended the transaction."""
        door = Door(connection, outbox.send)
        self._watch.begin_handling(work)
        begun = time.monotonic()
        ended = call(self._handler, work.request, door)
        seconds = time.monotonic() - begun
        self._usual += (seconds - self._usual) / 8
        if self._vitals.on_handled:
            self._vitals.on_handled(seconds)
        try:
            self._watch.end_handling()
        except Expired as expired:
            connection.close()  # its socket is shut down, so a ROLLBACK could only fail
            if expired.why is Why.STOP:
                work.put_off = True
            else:
                self._fail(work, timeout_of(self._terms.time_limit))
            raise _Failed from None
        if door.fault and not isinstance(door.fault, NotAllowed):
            work.interrupted += 1
            if work.interrupted < MOST_INTERRUPTED:
                raise door.fault
        if (cause := door.fault or ended) is not None:
            self._fail(work, failure_of(cause))
            raise _Failed

    def _fail(self, work: Work, failure: Failure) -> None:
        """Decide when the request is due again, and log the failure."""
        attempts = work.noted.attempts if work.noted else 1
        due_in = failure.due_in
        if failure.reason != failures.REJECTED:
            if attempts >= self._terms.max_attempts:
                due_in = None
            elif due_in is None:
                due_in = failures.wait(attempts)
        work.failure = dataclasses.replace(failure, due_in=due_in)
        self._vitals.attempts[failure.reason] += 1
        event(
            log,
            logging.WARNING,
            "request.failed",
            message_id=work.request.message_id,
            worker=self._name,
            reason=failure.reason,
            error=failure.kind,
            attempt=attempts,
            due_in="given up" if due_in is None else round(due_in, 1),
        )

    def _note(self, connection: Connection, work: Work, failure: Failure) -> None:
        if work.noted:
            failures.end(connection, work.request, self._name, failure)
        else:
            work.counted = failures.note(
                connection, work.request, self._name, failure, work.counted
            )

    def _end_noted(self, connection: Connection, work: Work, outcome: Outcome) -> None:
        if outcome is Outcome.CONFLICT and not work.redelivered:
            error = "another request of this identity is served"
            failure = Failure(failures.FAILED, "Conflict", error)
            failures.end(connection, work.request, self._name, failure)
        else:
            failures.clear(connection, work.request)

    def _log_given_up(self, given_up: GivenUp) -> None:
        self._vitals.attempts[failures.DIED] += 1
        event(
            log,
            logging.ERROR,
            "request.failed",
            message_id=given_up.request.message_id,
            worker=self._name,
            reason=failures.DIED,
            error=given_up.error,
            attempt=given_up.attempts,
            due_in="given up",
        )
