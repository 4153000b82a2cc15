"""Sessions that were logged out before they expired, known to all pages on one database.

A cookie is valid by its signature alone, so that pages need no list of sessions. Logged-out
sessions are the exception: a table keeps them until they would have expired anyway, and each page
keeps a copy in memory, as fresh as its last poll of the database.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import Any

from dashboard.lookup import Lookups
from dashboard.sessions import Session
from turnwise.errors import Permanent, ServerError
from turnwise.log import event

log = logging.getLogger(__name__)

_READ = "SELECT id FROM page_logouts WHERE ends_at > UTC_TIMESTAMP(6)"
_ONE = "SELECT 1 FROM page_logouts WHERE id = %s"
_WRITE = (
    "INSERT INTO page_logouts (id, ends_at) SELECT %s, %s FROM DUAL"
    " WHERE NOT EXISTS (SELECT 1 FROM page_logouts WHERE id = %s)"
)
_FORGET = "DELETE FROM page_logouts WHERE ends_at < UTC_TIMESTAMP(6) LIMIT 1000"


class Logouts:
    """Used by several threads. ``lookups`` use an account that may write the table.

    If the account may not, only this process knows of a logout, and logs a warning.
    """

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._elsewhere: frozenset[str] = frozenset()
        self._here: dict[str, Session] = {}
        self._unwritten: dict[str, Session] = {}

    def end(self, session: Session, now: float) -> None:
        """End a session, for all pages if the database is available; ``now`` is Unix time.

        It is written first and ended here afterwards: the session's own page keeps asking until
        it has the answer to the logout.
        """
        with self._lock:
            self._unwritten[session.id] = session
        try:
            self._write()
        finally:
            with self._lock:
                self._here = {id_: each for id_, each in self._here.items() if each.ends > now}
                self._here[session.id] = session

    def has(self, session: Session) -> bool:
        """Return whether a session was logged out, as far as this page knows."""
        with self._lock:
            return session.id in self._here or session.id in self._elsewhere

    def has_now(self, session: Session) -> bool:
        """Return whether a session was logged out, also by the database. Raises ServerError."""
        if self.has(session):
            return True
        with self._lookups.cursor() as cursor:
            cursor.execute(_ONE, (session.id,))
            return bool(cursor.fetchall())

    def read(self, cursor: Any) -> None:
        """Read the logouts of other pages, and write those that could not be written before."""
        cursor.execute(_READ)
        ended = frozenset(id_ for (id_,) in cursor.fetchall())
        with self._lock:
            self._elsewhere = ended
            waiting = bool(self._unwritten)
        if waiting:
            self._write()

    def _write(self) -> None:
        with self._writing:
            with self._lock:
                waiting = list(self._unwritten.values())
            try:
                with self._lookups.cursor() as cursor:
                    for session in waiting:
                        ends = datetime.fromtimestamp(session.ends, UTC).replace(tzinfo=None)
                        cursor.execute(_WRITE, (session.id, ends, session.id))
                    cursor.execute(_FORGET)
            except Permanent as error:
                event(log, logging.WARNING, "logout.here_only", problem=str(error))
            except ServerError:
                return  # the next poll of the database tries again
            with self._lock:
                for session in waiting:
                    self._unwritten.pop(session.id, None)
