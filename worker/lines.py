"""The lines up to which old rows were removed, and how a write stays clear of them.

Below a client's line a key collides no longer with what was served, so every insert must know the
line, and a prune must not move it in between. A prune first commits the lines it needs, and with
them counts up the *epoch* (the one row of ``prune_epoch``); only then it deletes.

- A write that is one statement holds a shared lock on the epoch's row until its commit, and fails
  unless it is the epoch whose lines it has looked at. A line that it does not know is therefore
  committed after it, and what that line covers is deleted later still: until then the key collides.
- A claim in an open transaction inserts first and looks then. It holds no lock on the epoch, since
  a handler may take its time. To insert the key of a removed row is possible only once its deletion
  is committed, hence once the line is: a look after the insert finds it.
"""

# Statements are put together of this module's own constants, and of values that are escaped.

from __future__ import annotations

from collections.abc import Iterable

from turnwise.database import Connection
from turnwise.message import Request
from turnwise.removed import lines_of

REMEMBERED = 10_000
"""Clients, at most, whose lines are remembered."""

GUARD = "FROM prune_epoch WHERE epoch = {epoch} LOCK IN SHARE MODE"
"""What gives a row in that epoch, and none in any other; it locks the epoch until the transaction
ends. The table holds nothing else, and by its key: that is what costs an INSERT the least."""

_EPOCH = "SELECT epoch FROM prune_epoch"


class Lines:
    """The lines of some clients, as of one epoch."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._known: dict[str, int] = {}

    @property
    def epoch(self) -> int:
        """The epoch that is known; clear_of() looks for it."""
        return self._epoch or 0

    def forget(self) -> None:
        """Take nothing for known any longer."""
        self._epoch = None
        self._known.clear()

    def clear_of(self, connection: Connection, requests: Iterable[Request]) -> bool:
        """Whether each request is above its client's line, in ``epoch``."""
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
