"""The handler of a trial's worker: it runs the handler on trial, and waits when a fault holds it.

It records each call and each exception outside of any transaction. A fault writes a file ``hold``
and gets an answer in ``held``; the handler waits until ``hold`` is gone.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from lab.trial.rig import AFTER_RETURN, AFTER_STATEMENT, HANDLER, LONGEST_HOLD, RIG
from turnwise import Handler, Request, Rows, Transaction


class _Held:
    """A ``db`` that a fault may hold after a statement."""

    def __init__(self, db: Transaction, request: Request) -> None:
        self._db = db
        self._request = request

    def execute(self, sql: str, args: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        rows = self._db.execute(sql, args)
        _hold(AFTER_STATEMENT, self._request)
        return rows

    def send(self, queue: str, message: str) -> None:
        self._db.send(queue, message)


def serve(request: Request, db: Transaction) -> None:
    """Serve with the handler on trial."""
    _note("begun", request)
    try:
        _handler(request, _Held(db, request))
    except BaseException:
        _note("raised", request)
        raise
    _hold(AFTER_RETURN, request)


def _hold(where: str, request: Request) -> None:
    hold = _rig / "hold"
    try:
        if hold.read_text() != where:
            return
    except FileNotFoundError:
        return
    _note("held", request)
    held = _rig / "held"
    held.write_text(f"{os.getpid()} {request.message_id}")
    until = time.monotonic() + LONGEST_HOLD
    while hold.exists() and time.monotonic() < until:
        time.sleep(0.01)
    held.unlink(missing_ok=True)


def _note(what: str, request: Request) -> None:
    os.write(_log, f"{what} {request.client} {request.counter} {os.getpid()}\n".encode())


def _load(name: str) -> Handler:
    module, _, path = name.partition(":")
    handler: Handler = attrgetter(path)(importlib.import_module(module))
    return handler


_rig = Path(os.environ[RIG])
_handler = _load(os.environ[HANDLER])
_log = os.open(_rig / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
