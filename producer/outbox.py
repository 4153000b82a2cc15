"""The outbox: an SQLite file that keeps each accepted request until RabbitMQ has confirmed it.

It also carries the client's name and the last number given out, so that numbers go on where they
stopped. The name is made unique when the file is created: whoever deletes an outbox begins a new
client, and no number of the old one is ever used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from turnwise.errors import OutboxError
from turnwise.message import MAX_CLIENT_LENGTH, Request

_APPLICATION_ID = 0x7475726E  # "turn": tells this file from other SQLite files
_SCHEMA_VERSION = 1
_SUFFIX_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # none that are mistaken for another
_SUFFIX_LENGTH = 6

_SCHEMA = f"""
CREATE TABLE client (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    base TEXT NOT NULL,
    name TEXT NOT NULL,
    accepted INTEGER NOT NULL
);
CREATE TABLE requests (
    counter INTEGER PRIMARY KEY,
    message TEXT NOT NULL,
    sent_at TEXT NOT NULL
);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_SCHEMA_VERSION};
"""

_ACCEPT = "INSERT INTO requests (counter, message, sent_at) VALUES (?, ?, ?)"
_NUMBER = "UPDATE client SET accepted = ?"
_STATUS = "SELECT name, accepted, (SELECT COUNT(*) FROM requests) FROM client"
_WAITING = "SELECT COUNT(*) FROM requests"
_NEXT = "SELECT counter, message, sent_at FROM requests WHERE counter > ? ORDER BY counter LIMIT ?"
_FORGET = "DELETE FROM requests WHERE counter BETWEEN ? AND ?"


@dataclass(frozen=True, slots=True)
class Status:
    """What an outbox holds. ``confirmed`` + ``waiting`` = ``accepted``."""

    client: str
    accepted: int
    confirmed: int
    waiting: int


class Outbox:
    """An open outbox. Every method raises OutboxError when the file cannot be used."""

    def __init__(self, path: Path, base: str | None = None) -> None:
        """Open the file, or create it for a client named after ``base``.

        Only one process may have it open: a second one gets an OutboxError that says so.
        """
        self.path = path
        with self._translating("open"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
            try:
                if not path.exists():
                    _create(path, base or _default_base())
                self._db = _connect(path)
                _check(self._db)
                kept, self.client, self.accepted = self._db.execute(
                    "SELECT base, name, accepted FROM client"
                ).fetchone()
                _check_owner(path, base, kept, self.client)
                (self.waiting,) = self._db.execute(_WAITING).fetchone()
            except BaseException:
                os.close(self._lock)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others have it."""
        self._db.close()
        os.close(self._lock)

    @property
    def status(self) -> Status:
        """Figures as of now."""
        return Status(self.client, self.accepted, self.accepted - self.waiting, self.waiting)

    def accept(self, messages: Sequence[str]) -> Sequence[Request]:
        """Number messages and keep them, all or none, on stable storage when this returns.

        Raises InvalidRequest for a message out of bounds; then none of them is accepted.
        """
        now = datetime.now(UTC)
        requests = [
            Request(self.client, counter, message, now)
            for counter, message in enumerate(messages, self.accepted + 1)
        ]
        if not requests:
            return requests
        last = requests[-1].counter
        sent_at = now.isoformat()
        with self._translating("write"), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_ACCEPT, ((r.counter, r.message, sent_at) for r in requests))
            self._db.execute(_NUMBER, (last,))
        self.accepted = last
        self.waiting += len(requests)
        return requests

    def after(self, number: int, limit: int) -> Iterator[tuple[int, Request]]:
        """Yield at most ``limit`` waiting requests above a counter, lowest first, with theirs."""
        with self._translating("read"):
            rows = self._db.execute(_NEXT, (number, limit)).fetchall()
        for counter, message, sent_at in rows:
            at = datetime.fromisoformat(sent_at)
            yield counter, Request(self.client, counter, message, at)

    def number(self, message_id: str) -> int:
        """Return the counter of a request of this client."""
        return int(message_id.rpartition("/")[2])

    def forget(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Remove confirmed requests: each range is a first and a last counter, both included."""
        with self._translating("write"), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            removed = self._db.executemany(_FORGET, ranges).rowcount
        self.waiting -= removed

    @contextlib.contextmanager
    def _translating(self, verb: str) -> Iterator[None]:
        with _translating(self.path, verb):
            yield


def read_status(path: Path) -> Status:
    """Read the figures of an outbox that another process may have open."""
    if not path.exists():
        raise OutboxError(f"there is no outbox {path}: it is made by the first 'producer send'")
    with _translating(path, "read"), contextlib.closing(_connect(path)) as db:
        _check(db)
        # One statement, one moment: the other process goes on accepting and forgetting.
        client, accepted, waiting = db.execute(_STATUS).fetchone()
    return Status(client, accepted, accepted - waiting, waiting)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    # FULL in WAL mode: a commit returns when it is on stable storage. Readers are not in the way.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def _lock(path: Path) -> int:
    """Take the outbox for this process alone; return the descriptor that holds it.

    The lock has a file of its own: SQLite's locks on the database would be lost with the first
    descriptor of it that this process closes.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode() or "unknown"
        os.close(lock)
        raise OutboxError(
            f"the outbox {path} is in use by another producer (process {owner}): stop that one, "
            "or give this client an outbox of its own with --outbox"
        ) from None
    os.truncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _create(path: Path, base: str) -> None:
    """Make an outbox beside, and put it in its place when it is complete."""
    new = path.with_name(f"{path.name}.new")
    # Messages are nobody else's business. SQLite gives its other files the mode of this one.
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.executescript(_SCHEMA)
        db.execute("INSERT INTO client VALUES (1, ?, ?, 0)", (base, f"{base}-{suffix}"))
    new.rename(path)


def _check(db: sqlite3.Connection) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise sqlite3.DatabaseError("it is another program's file")
    if version != _SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"it has version {version}, not {_SCHEMA_VERSION}")


def _check_owner(path: Path, base: str | None, kept: str, client: str) -> None:
    if base not in {None, kept, client}:
        raise OutboxError(
            f"the outbox {path} belongs to client {client!r}, not to {base!r}: leave the name "
            "out, or give each client an outbox of its own"
        )


def _default_base() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename.partition(".")[0])
    return host[: MAX_CLIENT_LENGTH - _SUFFIX_LENGTH - 1] or "client"


def valid_base(base: str) -> bool:
    """Whether a client can be named after ``base``: the name with its suffix must be valid."""
    limit = MAX_CLIENT_LENGTH - _SUFFIX_LENGTH - 1
    return re.fullmatch(rf"[A-Za-z0-9._-]{{1,{limit}}}", base, re.ASCII) is not None


@contextlib.contextmanager
def _translating(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutboxError(f"cannot {verb} the outbox {path}: {error.strerror}") from error
    except sqlite3.OperationalError as error:
        # SQLITE_FULL, SQLITE_IOERR, SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_BUSY
        raise OutboxError(f"cannot {verb} the outbox {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise OutboxError(
            f"the file {path} is no outbox, or it is damaged: {error}. Keep it for a rescue and "
            "use another --outbox"
        ) from error
