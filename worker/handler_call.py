"""Calls the user's function, which may do anything to the process."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Generator
from typing import NoReturn

from turnwise.door import Door
from turnwise.errors import ExitCode
from turnwise.handler import Handler
from turnwise.log import event
from turnwise.message import Request

log = logging.getLogger(__name__)

THREADS_TIMEOUT = 1.0
"""Seconds to wait for the handler's threads once the worker has stopped."""


def call(handler: Handler, request: Request, door: Door) -> BaseException | None:
    """Call the handler and close the door; return the exception that ended it, or None."""
    process, recursion = os.getpid(), sys.getrecursionlimit()
    ended: BaseException | None = None
    try:
        result = handler(request, door)
        if result is not None:
            ended = _undone(result)
    except BaseException as error:  # noqa: BLE001 - here SystemExit is an exception like any other
        ended = error
    if os.getpid() != process:
        _end_child(ended)
    if sys.getrecursionlimit() < recursion:
        sys.setrecursionlimit(recursion)
    door.close()
    return ended


def _undone(result: object) -> TypeError | None:
    """Return an error if the handler returned what it should have run, or raised."""
    if isinstance(result, BaseException):
        return TypeError(f"the handler returned {type(result).__name__}: raise it instead")
    if inspect.isawaitable(result):
        kind = "async: it returned a coroutine"
    elif isinstance(result, Generator | AsyncGenerator):
        kind = "a generator"
    else:
        return None
    if inspect.iscoroutine(result):
        result.close()  # or Python warns that it was never awaited
    return TypeError(f"the handler is {kind}, and did nothing")


def _end_child(ended: BaseException | None) -> NoReturn:
    """End a process that the handler forked and that returned from it.

    It shares our connections: the servers would take anything it sends for ours.
    """
    code = 0
    if isinstance(ended, SystemExit):
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    elif ended is not None:
        code = 1
        traceback.print_exception(ended)
    _exit(code & 0xFF)


def leave_threads() -> None:
    """End the process once the worker has stopped, even if threads of the handler still run.

    Python would wait for those that are not daemons until the process is killed.
    """
    until = time.monotonic() + THREADS_TIMEOUT
    left = []
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                left.append(thread.name)
    if left:
        event(log, logging.WARNING, "handler.threads_left", threads=left)
        _exit(ExitCode.OK)


def _exit(code: int) -> NoReturn:
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
