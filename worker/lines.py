"""The lines up to which old rows were removed, and how a write stays clear of them.

Below a client's line, a key no longer collides with the row that was served. So every insert must
know the line, and a prune must not move it in between. A prune first commits the lines it needs
and, with them, increments the *epoch* (the one row of ``prune_epoch``). Only then does it delete.

- A write of one statement holds a shared lock on the epoch's row until its commit, and fails unless
  the epoch is the one whose lines it has read. So a line that it does not know is committed after
  it, and the rows below that line are deleted later still. Until then, the key collides.
- A claim in an open transaction inserts first and reads the lines afterwards. It holds no lock on
  the epoch, since a handler may take long. The key of a removed row can be inserted only once the
  deletion is committed, and the line is committed before that: a read after the insert finds it.
"""

# Statements are built from this module's own constants and from escaped values.

from __future__ import annotations

from collections.abc import Iterable

from turnwise.database import Connection
from turnwise.message import Request
from turnwise.removed import lines_of

REMEMBERED = 10_000
"""The most clients whose lines are remembered."""

GUARD = "FROM prune_epoch WHERE epoch = {epoch} LOCK IN SHARE MODE"
"""Selects a row in that epoch and none in any other, and locks the epoch until the transaction
ends. The table holds only the epoch, as its key, which costs an INSERT the least."""

_EPOCH = "SELECT epoch FROM prune_epoch"


class Lines:
    """The lines of some clients, as of one epoch."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._known: dict[str, int] = {}

    @property
    def epoch(self) -> int:
        """The epoch that clear_of() has read; 0 if there is none yet."""
        return self._epoch or 0

    def forget(self) -> None:
        """Forget the epoch and all lines."""
        self._epoch = None
        self._known.clear()

    def clear_of(self, connection: Connection, requests: Iterable[Request]) -> bool:
        """Return whether each request is above its client's line, as of ``epoch``."""
        if self._epoch is None:
            with connection.cursor() as cursor:
                cursor.execute(_EPOCH)
                row = cursor.fetchone()
            if row is None:
                return False
            self._epoch = int(row[0])
        if not self._epoch:
            # Nothing was ever removed.
            return True
        clients = {request.client for request in requests}
        if unknown := clients - self._known.keys():
            if len(self._known) + len(unknown) > REMEMBERED:
                self._known.clear()
                unknown = clients
            self._known.update(dict.fromkeys(unknown, 0))
            self._known.update(lines_of(connection, unknown))
        return all(request.counter > self._known[request.client] for request in requests)
