"""The few errors everything else is translated into, and the exit codes they end a command with."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a command ends. Values follow BSD's sysexits.h where it has one."""

    OK = 0
    FAILED = 1
    """The command ran and found something wrong: a gap in the audit, a letter not found."""
    USAGE = 2
    """An unknown option or a bad value (click's own code)."""
    UNAVAILABLE = 69
    """A server that is needed at once cannot be reached."""
    STUCK = 70
    """A handler did not return, though its time was over; a supervisor starts the worker anew."""
    STORAGE = 74
    """The outbox cannot be written or read: not accepted."""
    WAITING = 75
    """Stopped while accepted requests still wait in the outbox; nothing is lost."""
    REFUSED = 77
    """A server refused the login or the permission."""
    CONFIG = 78
    """Something must be set up first: a virtual host, a database, a queue as it is meant."""


class TurnwiseError(Exception):
    """Something went wrong."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class ServerError(TurnwiseError):
    """A server answered with an error, or not at all. ``code`` is the server's own, if it gave one.

    Codes: AMQP 0-9-1 reply codes from RabbitMQ, error numbers from MySQL and MariaDB.
    """

    def __init__(self, message: str | None = None, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Transient(ServerError):
    """It may work in a moment: the one kind of error that is tried again."""

    exit_code = ExitCode.UNAVAILABLE


class Permanent(ServerError):
    """It will not work until somebody changes something."""

    exit_code = ExitCode.CONFIG


class Refused(Permanent):
    """The server refused the login or the permission."""

    exit_code = ExitCode.REFUSED


class NotAllowed(TurnwiseError):
    """A handler did what it may not."""


class Stopped(TurnwiseError):
    """Asked to stop while waiting."""


class OutboxError(TurnwiseError):
    """The outbox cannot be used."""

    exit_code = ExitCode.STORAGE


class InvalidRequest(TurnwiseError, ValueError):
    """Not a request: ``field`` says where, ``problem`` says why."""

    exit_code = ExitCode.USAGE

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
