"""The board that all pages read: the newest figures, each with the sequence of its last change.

The watchers write it; the pages' requests read it. A page sends the cursor of its last answer and
receives what changed since. That works even if another process gave that answer: each value also
has the time of its change, by the clock of the database that all processes share.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dashboard.figures import Accounts, Failures, Found, Identity, Queue, Second, Served
from dashboard.sight import PATIENCE, SLOW, SLOW_PATIENCE, Outage, Sight
from turnwise.outbox_status import OutboxStatus

KEPT = 300
"""Seconds that the charts show."""

FOLLOWED_FOR = 3.0
"""Seconds for which a request is looked up after a page asked for it."""

FOLLOWED_MOST = 100
"""The most requests looked up at the same time."""

FRESH = 1.0
"""Seconds for which a result is returned without another lookup."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Noted(Generic[T]):
    """A value, the sequence of its last change, and the time at which the change was seen."""

    sequence: int
    at: float
    value: T


@dataclass(frozen=True, slots=True)
class Account:
    """The audit, and since when each shown client's resume point has stood before a gap."""

    audit: Accounts
    gaps_since: dict[str, float]


@dataclass(frozen=True, slots=True)
class View:
    """All that is known at one moment. ``now`` is Unix time by the database's clock.

    ``process`` identifies this board among others. All commits before ``complete`` are known.
    """

    process: str
    sequence: int
    complete: float
    now: float
    requests: list[Noted[Served]]
    seconds: dict[int, Noted[Second]]
    queue: Queue | None
    audit: Noted[Account] | None
    failures: Failures | None
    outbox: OutboxStatus | None
    replicas: list[str]
    missing: dict[str, Outage | None]
    outages: dict[str, list[Outage]]


@dataclass(slots=True)
class _Followed:
    asked: float
    read: float | None = None
    found: Found = field(default_factory=Found)


class Board:
    """Written and read by several threads. ``servers`` names the servers that are watched."""

    def __init__(self, servers: Iterable[str], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Condition()
        self._process = secrets.token_hex(4)
        self._sequence = 0
        self._complete = 0.0
        self._offset = 0.0
        self._requests: list[Noted[Served]] = []
        self._seconds: dict[int, Noted[Second]] = {}
        self._queue: Queue | None = None
        self._audit: Noted[Account] | None = None
        self._failures: Failures | None = None
        self._outbox: OutboxStatus | None = None
        self._replicas: dict[str, float] = {}
        self._sights = {
            server: Sight(clock(), KEPT, SLOW_PATIENCE if server in SLOW else PATIENCE)
            for server in servers
        }
        self._followed: dict[Identity, _Followed] = {}

    # -- called by the watchers

    def seen(self, server: str) -> None:
        """Note that a server has answered."""
        with self._lock:
            self._sights[server].seen(self._now())

    def failed(self, server: str, problem: str) -> None:
        """Note that a server has failed to answer, or answered with an error."""
        with self._lock:
            self._sights[server].failed(problem)

    def set_clock(self, now: float) -> None:
        """Set the database's current time, whose clock all times here follow."""
        with self._lock:
            self._offset = now - self._clock()

    def put_requests(self, latest: list[Served], looked_at: float) -> None:
        """Store the latest requests, newest first, from the poll that began at ``looked_at``."""
        with self._lock:
            self._complete = looked_at
            self._note_replicas({request.served_by for request in latest})
            before = {noted.value.identity: noted for noted in self._requests}
            sequence = self._sequence + 1
            noted = []
            for request in latest:
                known = before.get(request.identity)
                same = known and known.value == request
                noted.append(known if known and same else Noted(sequence, self._now(), request))
            if noted != self._requests:
                self._requests = noted
                self._sequence = sequence

    def put_served(self, first: int, last: int, served: Mapping[int, dict[str, int]]) -> None:
        """Store how many requests each replica served in the seconds ``first`` to ``last``."""
        with self._lock:
            for second in range(first, last + 1):
                self._change(second, served=served.get(second, {}))
            self._note_replicas({name for counts in served.values() for name in counts})

    def put_queue(self, queue: Queue) -> None:
        """Store the queue's current figures."""
        with self._lock:
            self._queue = queue
            self._change(int(self._now()), queue=queue)
            self._note_replicas(queue.replicas)

    def put_failures(self, failures: Failures) -> None:
        """Store how many requests failed and are not served."""
        with self._lock:
            self._failures = failures

    def put_outbox(self, outbox: OutboxStatus) -> None:
        """Store the current status of the table outbox."""
        with self._lock:
            self._outbox = outbox

    def put_audit(self, audit: Accounts) -> None:
        """Store the current audit."""
        with self._lock:
            before = self._audit.value if self._audit else None
            account = Account(audit, _gaps_since(before, audit, self._now()))
            if account != before:
                self._sequence += 1
                self._audit = Noted(self._sequence, self._now(), account)

    def counted_from(self) -> int:
        """Return the first second whose served requests must be counted (again)."""
        with self._lock:
            counted = [s for s, noted in self._seconds.items() if noted.value.served is not None]
            return max([*counted, int(self._now()) - KEPT])

    def last_served(self) -> int:
        """Return the sequence of the last change in the latest requests; 0 if there was none."""
        with self._lock:
            return max((noted.sequence for noted in self._requests), default=0)

    def followed(self) -> list[Identity]:
        """Return the requests that pages want looked up."""
        with self._lock:
            oldest = time.monotonic() - FOLLOWED_FOR
            self._followed = {i: f for i, f in self._followed.items() if f.asked > oldest}
            return list(self._followed)

    def put_followed(self, found: Mapping[Identity, Found]) -> None:
        """Store the results of looking up the followed requests."""
        with self._lock:
            for identity, each in found.items():
                if followed := self._followed.get(identity):
                    followed.read, followed.found = time.monotonic(), each
            self._lock.notify_all()

    # -- called by the pages

    def view(self) -> View:
        """Return all that is known now."""
        with self._lock:
            now = self._now()
            return View(
                process=self._process,
                sequence=self._sequence,
                complete=self._complete,
                now=now,
                requests=self._requests,
                seconds=dict(self._seconds),
                queue=self._queue,
                audit=self._audit,
                failures=self._failures,
                outbox=self._outbox,
                replicas=list(self._replicas),
                missing={name: sight.outage(now) for name, sight in self._sights.items()},
                outages={name: sight.outages(now) for name, sight in self._sights.items()},
            )

    def follow(self, identity: Identity, timeout: float, hurry: Callable[[], None]) -> Found:
        """Return what is known of a request now.

        Calls ``hurry()`` if that needs a poll of the database.

        Raises TimeoutError if the database does not answer within ``timeout`` seconds, or if too
        many requests are being looked up already.
        """
        begun = time.monotonic()
        with self._lock:
            if identity not in self._followed and len(self._followed) >= FOLLOWED_MOST:
                raise TimeoutError
            followed = self._followed.setdefault(identity, _Followed(begun))
            followed.asked = begun

            def fresh() -> bool:
                return followed.read is not None and followed.read > begun - FRESH

            if not fresh():
                hurry()
                if not self._lock.wait_for(fresh, timeout):
                    raise TimeoutError
            return followed.found

    def complete(self) -> bool:
        """Return whether each server's state is known, even if it is unavailable."""
        with self._lock:
            return all(sight.known for sight in self._sights.values())

    # -- internals

    def _now(self) -> float:
        return self._clock() + self._offset

    def _change(self, second: int, **what: Any) -> None:
        noted = self._seconds.get(second)
        before = noted.value if noted else Second()
        after = dataclasses.replace(before, **what)
        if after == before and noted:
            return
        self._sequence += 1
        self._seconds[second] = Noted(self._sequence, self._now(), after)
        oldest = int(self._now()) - KEPT
        for old in [s for s in self._seconds if s < oldest]:
            del self._seconds[old]

    def _note_replicas(self, names: Iterable[str]) -> None:
        """Keep each replica that appeared in a figure during the last KEPT seconds."""
        now = self._now()
        self._replicas |= dict.fromkeys(names, now)
        for old in [name for name, at in self._replicas.items() if at < now - KEPT]:
            del self._replicas[old]


def _gaps_since(before: Account | None, audit: Accounts, now: float) -> dict[str, float]:
    """Return since when the resume point of each client with a gap has not moved. Pure."""
    stood = {line.client: line.resume_at for line in before.audit.lines} if before else {}
    return {
        line.client: (
            before.gaps_since.get(line.client, now)
            if before and stood.get(line.client) == line.resume_at
            else now
        )
        for line in audit.lines
        if line.missing
    }
