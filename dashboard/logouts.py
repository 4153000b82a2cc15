"""Sessions that were ended before their time, known to all pages on one database.

A cookie is good by its signature alone, so that pages need no list of sessions. Those that were
logged out are the exception: they stand in a table until they would have ended anyway, and each
page keeps a copy in memory, as fresh as its last look at the database.
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
    """Used by several threads. ``lookups`` are of an account that may write the table.

    Where the account may not, a logout is known to this process only, and a warning says so.
    """

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._told: frozenset[str] = frozenset()
        self._here: dict[str, Session] = {}
        self._unwritten: dict[str, Session] = {}

    def end(self, session: Session, now: float) -> None:
        """End a session, for all pages if the database is there; ``now`` is Unix time.

        First elsewhere, then here: its own page goes on asking until it has its answer.
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
        """Whether a session was ended, as far as this page knows."""
        with self._lock:
            return session.id in self._here or session.id in self._told

    def has_now(self, session: Session) -> bool:
        """Whether it was ended, as the database knows. Raises ServerError."""
        if self.has(session):
            return True
        with self._lookups.cursor() as cursor:
            cursor.execute(_ONE, (session.id,))
            return bool(cursor.fetchall())

    def read(self, cursor: Any) -> None:
        """Learn what other pages ended, and write what could not be written before."""
        cursor.execute(_READ)
        told = frozenset(id_ for (id_,) in cursor.fetchall())
        with self._lock:
            self._told = told
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
                return  # the next look at the database tries again
            with self._lock:
                for session in waiting:
                    self._unwritten.pop(session.id, None)
