"""What all pages look at: the newest figures in memory, each with the sequence of its last change.

The watchers write, the requests of the pages read. A page says up to which sequence it knows and
gets what changed since.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dashboard.figures import Identity, Queue, Second, Served
from dashboard.sight import Outage, Sight
from turnwise.audit import Audit

KEPT = 300
"""Seconds that the charts show."""

FOLLOWED_FOR = 3.0
"""Seconds for which a request is looked up after somebody asked for it."""

FOLLOWED_MOST = 100
"""Requests looked up at the same time."""

FRESH = 1.0
"""Seconds for which what was looked up is told without another look."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Noted(Generic[T]):
    """A value, and the sequence of its last change."""

    sequence: int
    value: T


@dataclass(frozen=True, slots=True)
class Account:
    """The audit, and since when each client's resume point stands still before a gap."""

    audit: Audit
    gaps_since: dict[str, float]


@dataclass(frozen=True, slots=True)
class View:
    """All that is known at one moment. ``now`` is Unix time by the database's clock."""

    sequence: int
    now: float
    requests: list[Noted[Served]]
    seconds: dict[int, Noted[Second]]
    queue: Queue | None
    audit: Noted[Account] | None
    slots: dict[str, int]
    missing: dict[str, Outage | None]
    outages: dict[str, list[Outage]]


@dataclass(slots=True)
class _Followed:
    asked: float
    read: float | None = None
    request: Served | None = None


class Board:
    """Written and read by several threads. ``servers`` are the names of what can be out of sight.

    The sequence begins with the time, so that a page need not know whether it still talks to the
    process it began with: what it knows from another one is older than all of this.
    """

    def __init__(self, servers: Iterable[str], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Condition()
        self._sequence = int(clock() * 1000)
        self._offset = 0.0
        self._requests: list[Noted[Served]] = []
        self._seconds: dict[int, Noted[Second]] = {}
        self._queue: Queue | None = None
        self._audit: Noted[Account] | None = None
        self._slots: dict[str, int] = {}
        self._sights = {server: Sight(clock(), KEPT) for server in servers}
        self._followed: dict[Identity, _Followed] = {}

    # -- what the watchers tell

    def seen(self, server: str) -> None:
        """A server has answered."""
        with self._lock:
            self._sights[server].seen(self._now())

    def failed(self, server: str, problem: str) -> None:
        """A server has not answered, or not well."""
        with self._lock:
            self._sights[server].failed(problem)

    def set_clock(self, now: float) -> None:
        """Tell the time of the database, whose clock all times here are of."""
        with self._lock:
            self._offset = now - self._clock()

    def put_requests(self, latest: list[Served]) -> None:
        """The latest requests, newest first."""
        with self._lock:
            before = {noted.value.identity: noted for noted in self._requests}
            sequence = self._sequence + 1
            noted = []
            for request in latest:
                known = before.get(request.identity)
                noted.append(
                    known if known and known.value == request else Noted(sequence, request)
                )
            if noted != self._requests:
                self._requests = noted
                self._sequence = sequence
                self._assign_slots({request.served_by for request in latest})

    def put_served(self, first: int, last: int, served: Mapping[int, dict[str, int]]) -> None:
        """How many each replica served in the seconds ``first`` to ``last``."""
        with self._lock:
            for second in range(first, last + 1):
                self._change(second, served=served.get(second, {}))
            self._assign_slots({name for counts in served.values() for name in counts})

    def put_queue(self, queue: Queue) -> None:
        """The queue at this moment."""
        with self._lock:
            self._queue = queue
            self._change(int(self._now()), queue=queue)
            self._assign_slots(queue.replicas)

    def put_audit(self, audit: Audit) -> None:
        """The audit at this moment."""
        with self._lock:
            before = self._audit.value if self._audit else None
            account = Account(audit, _gaps_since(before, audit, self._now()))
            if account != before:
                self._sequence += 1
                self._audit = Noted(self._sequence, account)

    def counted_from(self) -> int:
        """From which second on the served requests are to be counted (again)."""
        with self._lock:
            counted = [s for s, noted in self._seconds.items() if noted.value.served is not None]
            return max([*counted, int(self._now()) - KEPT])

    def last_served(self) -> int:
        """The sequence of the last change in the latest requests; 0 if there was none."""
        with self._lock:
            return max((noted.sequence for noted in self._requests), default=0)

    def followed(self) -> list[Identity]:
        """The requests that somebody wants looked up."""
        with self._lock:
            oldest = time.monotonic() - FOLLOWED_FOR
            self._followed = {i: f for i, f in self._followed.items() if f.asked > oldest}
            return list(self._followed)

    def put_followed(self, found: Mapping[Identity, Served | None]) -> None:
        """What was found of those that were to be looked up; None: not there."""
        with self._lock:
            for identity, request in found.items():
                if followed := self._followed.get(identity):
                    followed.read, followed.request = time.monotonic(), request
            self._lock.notify_all()

    # -- what the pages ask

    def view(self) -> View:
        """Return all that is known now."""
        with self._lock:
            now = self._now()
            return View(
                sequence=self._sequence,
                now=now,
                requests=self._requests,
                seconds=dict(self._seconds),
                queue=self._queue,
                audit=self._audit,
                slots=dict(self._slots),
                missing={name: sight.outage(now) for name, sight in self._sights.items()},
                outages={name: sight.outages(now) for name, sight in self._sights.items()},
            )

    def follow(
        self, identity: Identity, timeout: float, hurry: Callable[[], None]
    ) -> Served | None:
        """Return a request as it is now, or None if it is not served.

        ``hurry()`` is called if that takes a look at the database.

        Raises TimeoutError if the database has not told within ``timeout`` seconds, or if too many
        are looked up already.
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
            return followed.request

    def complete(self) -> bool:
        """Whether of each server something is known, be it that it is away."""
        with self._lock:
            return all(sight.known for sight in self._sights.values())

    # -- its own

    def _now(self) -> float:
        return self._clock() + self._offset

    def _change(self, second: int, **what: Any) -> None:
        noted = self._seconds.get(second)
        before = noted.value if noted else Second()
        after = dataclasses.replace(before, **what)
        if after == before and noted:
            return
        self._sequence += 1
        self._seconds[second] = Noted(self._sequence, after)
        oldest = int(self._now()) - KEPT
        for old in [s for s in self._seconds if s < oldest]:
            del self._seconds[old]

    def _assign_slots(self, names: Iterable[str]) -> None:
        """Give each replica a number of its own, for its colour and its letter, and let it keep it.

        A replica that is in no figure any more gives its number back.
        """
        if not set(names) - self._slots.keys():
            return
        shown = {noted.value.served_by for noted in self._requests}
        for noted in self._seconds.values():
            shown |= (noted.value.served or {}).keys()
        if self._queue:
            shown |= self._queue.replicas
        self._slots = {name: slot for name, slot in self._slots.items() if name in shown}
        for name in sorted(set(names) - self._slots.keys()):
            taken = set(self._slots.values())
            self._slots[name] = next(n for n in range(len(taken) + 1) if n not in taken)


def _gaps_since(before: Account | None, audit: Audit, now: float) -> dict[str, float]:
    """Since when the resume point of each client with a gap stands where it is. Pure."""
    stood = (
        {account.client: account.resume_at for account in before.audit.clients} if before else {}
    )
    return {
        account.client: (
            before.gaps_since.get(account.client, now)
            if before and stood.get(account.client) == account.resume_at
            else now
        )
        for account in audit.clients
        if account.missing
    }
