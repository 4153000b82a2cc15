"""The outbox: an SQLite file that keeps each accepted request until RabbitMQ has confirmed it.

It also holds the client's name and the last number assigned, so that numbering continues where it
stopped. Each new file gets a unique client name: deleting an outbox starts a new client, and no
number of the old client is ever reused.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Self

from producer import outbox_file
from producer.client_name import default_base
from turnwise.errors import OutboxError
from turnwise.limits import check_message
from turnwise.template import Template

LIMIT = 1024**3
"""Default size limit of the file in bytes: some six million short requests."""

_ACCEPT = "INSERT INTO requests (counter, message, sent_at) VALUES (?, ?, ?)"
_NUMBER = "UPDATE client SET accepted = ?"
_CLIENT = "SELECT base, name, accepted, confirmed FROM client"
_STATUS = "SELECT name, accepted, confirmed FROM client"
_STATUS_OF_VERSION_1 = (
    "SELECT name, accepted, accepted - (SELECT COUNT(*) FROM requests) FROM client"
)
_NEXT = "SELECT counter, message, sent_at FROM requests WHERE counter > ? ORDER BY counter LIMIT ?"
_FORGET = "DELETE FROM requests WHERE counter BETWEEN ? AND ?"
_CONFIRM = "UPDATE client SET confirmed = confirmed + ?"

_CLUSTER = "SELECT cluster FROM clusters WHERE queue = ?"
_KEEP_CLUSTER = "INSERT OR REPLACE INTO clusters (queue, cluster) VALUES (?, ?)"

_LOOK = 10_000
"""Requests to remove before checking whether the file can shrink."""


@dataclass(frozen=True, slots=True)
class Status:
    """The figures of an outbox. ``confirmed`` + ``waiting`` = ``accepted``."""

    client: str
    accepted: int
    confirmed: int
    waiting: int


class OutboxFull(OutboxError):
    """The outbox has reached its limit: it accepts nothing until some requests are confirmed."""


class Outbox:
    """An open outbox. Every method raises OutboxError when the file cannot be used."""

    def __init__(self, path: Path, base: str | None = None, limit: int = LIMIT) -> None:
        """Open the file, or create it for a client named after ``base``.

        It accepts messages until it has ``limit`` bytes. Only one process may have it open: in a
        second one, this raises OutboxError.
        """
        self.path = path
        self.limit = limit
        self.full = False
        """Whether the limit caused the last messages to be refused."""
        self._removed = 0
        with self._translating("open"):
            outbox_file.make_folder(path.parent)
            self._lock = outbox_file.lock(path)
            try:
                if not path.exists():
                    outbox_file.make(path, base or default_base())
                self._db = outbox_file.connect_alone(path)
                kept, self.client, self.accepted, confirmed = self._db.execute(_CLIENT).fetchone()
                _check_owner(path, base, kept, self.client)
                self.waiting = self.accepted - confirmed
            except BaseException:
                os.close(self._lock)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release its lock."""
        outbox_file.shrink(self._db)
        self._db.close()
        os.close(self._lock)

    @property
    def status(self) -> Status:
        """The current figures."""
        return Status(self.client, self.accepted, self.accepted - self.waiting, self.waiting)

    def accept(self, messages: Sequence[str]) -> range:
        """Number messages and store them, all or none; they are on stable storage on return.

        Returns their counters. Raises InvalidRequest if a message is out of bounds, and OutboxFull
        at the limit; in both cases none is accepted.
        """
        counters = range(self.accepted + 1, self.accepted + len(messages) + 1)
        if not counters:
            return counters
        for message in dict.fromkeys(messages):  # a Clock's messages are all the same
            check_message(message)
        with self._translating("read"):
            self._check_room()
        rows = zip(counters, messages, itertools.repeat(datetime.now(UTC).isoformat()))
        with self._translating("write"), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_ACCEPT, rows)
            self._db.execute(_NUMBER, (counters[-1],))
        self.accepted = counters[-1]
        self.waiting += len(counters)
        return counters

    def after(self, number: int, limit: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield at most ``limit`` waiting requests above a counter, lowest first.

        Each is the counter, and the body and the properties in wire format.
        """
        with self._translating("read"):
            rows = self._db.execute(_NEXT, (number, limit)).fetchall()
        # Messages accepted together have the same time.
        for sent_at, accepted in itertools.groupby(rows, key=itemgetter(2)):
            write = Template(self.client, datetime.fromisoformat(sent_at)).write
            for counter, message, _ in accepted:
                yield counter, *write(counter, message)

    def cluster(self, queue: str) -> str | None:
        """Return the name of the cluster that confirmed a publish to a queue; None if none did."""
        with self._translating("read"):
            row = self._db.execute(_CLUSTER, (queue,)).fetchone()
        return row[0] if row else None

    def keep_cluster(self, queue: str, cluster: str) -> None:
        """Store the name of the cluster that confirmed a publish to a queue."""
        with self._translating("write"):
            self._db.execute(_KEEP_CLUSTER, (queue, cluster))

    def number(self, message_id: str) -> int:
        """Return the counter of a request of this client."""
        return int(message_id.rpartition("/")[2])

    def forget(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Remove confirmed requests: each range is a first and a last counter, both included.

        If the machine fails now, some may be back afterwards, and are published again.
        """
        with self._translating("write"):
            with outbox_file.unsynced(self._db):
                removed = self._db.executemany(_FORGET, ranges).rowcount
                self._db.execute(_CONFIRM, (removed,))
            self.waiting -= removed
            self._removed += removed
            if self._removed >= _LOOK:
                self._removed = 0
                outbox_file.shrink(self._db)

    def _check_room(self) -> None:
        self.full = outbox_file.used(self._db) >= self.limit
        if self.full:
            raise OutboxFull(
                f"the outbox {self.path} is full: {self.waiting:,} requests are waiting, taking "
                f"{self.limit / 1024**2:,.0f} MiB (--outbox-limit)"
            )

    def _translating(self, verb: str) -> contextlib.AbstractContextManager[None]:
        return outbox_file.translating(self.path, verb)


def read_status(path: Path) -> Status:
    """Read the figures of an outbox that another process may have open."""
    if not path.exists():
        raise OutboxError(f"there is no outbox {path}: the first 'producer send' creates it")
    with outbox_file.translating(path, "read"):
        db, version = outbox_file.connect(path)
        with contextlib.closing(db):
            # One statement, hence one snapshot: the other process keeps accepting and forgetting.
            query = _STATUS if version > 1 else _STATUS_OF_VERSION_1
            client, accepted, confirmed = db.execute(query).fetchone()
    return Status(client, accepted, confirmed, accepted - confirmed)


def _check_owner(path: Path, base: str | None, kept: str, client: str) -> None:
    if base not in {None, kept, client}:
        raise OutboxError(
            f"the outbox {path} belongs to client {client!r}, not to {base!r}: leave the name "
            "out, or give each client an outbox of its own"
        )
