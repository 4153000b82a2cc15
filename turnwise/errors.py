"""The errors that all others are translated into, and the exit codes of the commands."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """The exit codes of the commands. Values follow BSD's sysexits.h where it defines one."""

    OK = 0
    FAILED = 1
    """The command ran and found a problem: a gap in the audit, a letter that does not exist."""
    USAGE = 2
    """An unknown option or a bad value (click's own code)."""
    UNAVAILABLE = 69
    """A server that the command cannot wait for is unreachable."""
    STUCK = 70
    """A handler did not return within its time limit; a supervisor restarts the worker."""
    STORAGE = 74
    """The outbox cannot be written or read; nothing was accepted."""
    WAITING = 75
    """Stopped while accepted requests are still waiting in the outbox; nothing is lost."""
    REFUSED = 77
    """A server refused the login or the permission."""
    CONFIG = 78
    """Something must be set up first: a virtual host, a database, a queue with other arguments."""


class TurnwiseError(Exception):
    """Something went wrong."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class ServerError(TurnwiseError):
    """A server answered with an error or not at all. ``code`` is the server's own, if it sent one.

    Codes: AMQP 0-9-1 reply codes from RabbitMQ, error numbers from MySQL and MariaDB.
    """

    def __init__(self, message: str | None = None, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Transient(ServerError):
    """A temporary failure: the only kind of error that is retried."""

    exit_code = ExitCode.UNAVAILABLE


class Permanent(ServerError):
    """A failure that lasts until an operator changes something."""

    exit_code = ExitCode.CONFIG


class Refused(Permanent):
    """The server refused the login or the permission."""

    exit_code = ExitCode.REFUSED


class NotAllowed(TurnwiseError):
    """A handler did something that is not allowed."""


class Stopped(TurnwiseError):
    """Asked to stop while waiting."""


class OutboxError(TurnwiseError):
    """The outbox cannot be used."""

    exit_code = ExitCode.STORAGE


class InvalidRequest(TurnwiseError, ValueError):
    """Not a valid request: ``field`` names the field, ``problem`` says what is wrong with it."""

    exit_code = ExitCode.USAGE

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
