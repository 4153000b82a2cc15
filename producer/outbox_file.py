"""The outbox's file: creates, recognises, locks, upgrades and shrinks it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from producer.client_name import unique_name
from turnwise.errors import OutboxError

_APPLICATION_ID = 0x7475726E  # "turn": distinguishes this file from other SQLite files
# Its offset: https://www.sqlite.org/fileformat.html#the_database_header
_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = slice(68, 72)
_HEADER_BYTES = 100

VERSION = 2
"""The version of the schema. Version 1 did not count confirmed requests."""

# Added after version 2; releases with version 2 work without it.
_CLUSTERS = """
CREATE TABLE IF NOT EXISTS clusters (
    queue TEXT PRIMARY KEY,
    cluster TEXT NOT NULL
)"""

_SCHEMA = f"""
CREATE TABLE client (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    base TEXT NOT NULL,
    name TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    confirmed INTEGER NOT NULL
);
CREATE TABLE requests (
    counter INTEGER PRIMARY KEY,
    message TEXT NOT NULL,
    sent_at TEXT NOT NULL
);
{_CLUSTERS};
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""

_UPGRADE = """
BEGIN IMMEDIATE;
ALTER TABLE client ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0;
UPDATE client SET confirmed = accepted - (SELECT COUNT(*) FROM requests);
PRAGMA user_version = 2;
COMMIT;
"""

_WAL_BYTES = 4 * 1024 * 1024
_LARGE = 16 * 1024 * 1024
_LITTLE = 4 * 1024 * 1024
"""Bytes. A file above _LARGE that holds at most _LITTLE is shrunk, which copies its contents."""


def make_folder(folder: Path) -> None:
    """Create a folder and its parents on stable storage. SQLite syncs only the innermost.

    A new name is durable once the folder that contains it is synced.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make(path: Path, base: str) -> None:
    """Create an outbox under a temporary name, and rename it when it is complete."""
    new = path.with_name(f"{path.name}.new")
    # SQLite would take files left by a removed or incomplete outbox for those of the new one.
    for name in (path.name, new.name):
        for ending in ("-wal", "-shm", "-journal"):
            path.with_name(name + ending).unlink(missing_ok=True)
    # Messages are private. SQLite gives its other files the mode of this one.
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.executescript(_SCHEMA)
        db.execute("INSERT INTO client VALUES (1, ?, ?, 0, 0)", (base, unique_name(base)))
    new.rename(path)


def recognise(path: Path) -> None:
    """Raise sqlite3.DatabaseError if the file is not an outbox. No file is changed or created."""
    # Read without SQLite. SQLite would create files beside it, which may disturb another program's
    # database, or read pages that a crash left half written and that only the WAL has complete.
    # The header is in the first sector, and these parts of it never change.
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC):
        raise sqlite3.DatabaseError("it is not an SQLite file")
    if int.from_bytes(header[_APPLICATION_ID_AT]) != _APPLICATION_ID:
        raise sqlite3.DatabaseError("it is another program's file")


def connect(path: Path) -> tuple[sqlite3.Connection, int]:
    """Connect to an existing outbox; return the connection and the version of its schema.

    Raises sqlite3.DatabaseError if it is not an outbox, or belongs to a newer release.
    """
    recognise(path)
    db = sqlite3.connect(_uri(path, "mode=rw"), uri=True, isolation_level=None, timeout=10)
    version = _pragma(db, "user_version")
    if not 1 <= version <= VERSION:
        db.close()
        raise sqlite3.DatabaseError(f"it has version {version}; this release knows {VERSION}")
    return db, version


def connect_alone(path: Path) -> sqlite3.Connection:
    """Connect for writing, in the process that holds the lock."""
    db, version = connect(path)
    # FULL in WAL mode: a commit returns once it is on stable storage. Readers do not block it.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    db.execute("PRAGMA temp_store = MEMORY")  # a container may have no folder for it
    if version < VERSION:
        db.executescript(_UPGRADE)
    db.execute(_CLUSTERS)
    return db


@contextlib.contextmanager
def unsynced(db: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction that reaches stable storage only with the next one, or a checkpoint."""
    db.execute("PRAGMA synchronous = NORMAL")
    try:
        with db:
            db.execute("BEGIN IMMEDIATE")
            yield
    finally:
        db.execute("PRAGMA synchronous = FULL")


def used(db: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    return _pragma(db, "page_size") * (_pragma(db, "page_count") - _pragma(db, "freelist_count"))


def shrink(db: sqlite3.Connection) -> None:
    """Return free space to the file system, if the file is large and holds little.

    SQLite itself keeps free space for reuse.
    """
    # Shrinking is optional.
    with contextlib.suppress(sqlite3.Error):
        size = _pragma(db, "page_size") * _pragma(db, "page_count")
        if size < _LARGE or used(db) > _LITTLE:
            return
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def lock(path: Path) -> int:
    """Lock the outbox for this process alone; return the descriptor that holds the lock.

    The lock has a file of its own: SQLite's locks on the database would be lost when this process
    closes any descriptor of it.
    """
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode() or "unknown"
        os.close(descriptor)
        raise OutboxError(
            f"the outbox {path} is in use by another producer (process {owner}): stop that one, "
            "or give this client an outbox of its own with --outbox"
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


@contextlib.contextmanager
def translating(path: Path, verb: str) -> Iterator[None]:
    """Translate errors of the file into OutboxError."""
    try:
        yield
    except OSError as error:
        raise OutboxError(f"cannot {verb} the outbox {path}: {error.strerror}") from error
    except sqlite3.OperationalError as error:
        # SQLITE_FULL, SQLITE_IOERR, SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_BUSY
        raise OutboxError(f"cannot {verb} the outbox {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise OutboxError(
            f"the file {path} is not an outbox, or is damaged: {error}. Keep it for a rescue and "
            "use another --outbox"
        ) from error


def _pragma(db: sqlite3.Connection, name: str) -> int:
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _uri(path: Path, how: str) -> str:
    return f"{path.absolute().as_uri()}?{how}"
