"""The interface of handlers: user functions that serve a request inside its one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from turnwise.message import Request

LONGEST_RETRY = 30 * 24 * 3600.0
"""The longest time in seconds that a handler may postpone a request: 30 days."""


class Reject(Exception):
    """The handler will never serve this request.

    Its effects are rolled back and the worker gives the request up at once, with ``reason``, until
    an operator runs 'worker failed retry'.
    """

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):
    """The handler cannot serve this request now.

    Its effects are rolled back and the request is retried ``after`` seconds later (0 to 2,592,000),
    or after the usual wait if that is None. It counts as an attempt. The constructor raises
    ValueError if ``after`` is out of range.
    """

    def __init__(self, reason: str = "not now", *, after: float | None = None) -> None:
        super().__init__(reason)
        if after is not None and not 0 <= after <= LONGEST_RETRY:
            raise ValueError(f"after must be between 0 and {LONGEST_RETRY:.0f} seconds")
        self.reason = reason
        self.after = None if after is None else float(after)


class Rows(Protocol):
    """The result of a statement. Iterating over it yields the rows, as tuples."""

    @property
    def rowcount(self) -> int:
        """The number of rows that a write changed or a query found."""

    @property
    def lastrowid(self) -> int:
        """The AUTO_INCREMENT value that an INSERT generated; 0 if there is none."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows that are not fetched yet."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row; None if there is none left."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows that are not fetched yet."""


class Transaction(Protocol):
    """The one transaction that serves a request, as a handler sees it."""

    def execute(self, sql: str, args: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        """Run one statement: a query, INSERT, UPDATE, DELETE or REPLACE.

        ``%s`` stands for the next of ``args``, ``%(name)s`` for one of a mapping. Raises the
        driver's errors (``pymysql.Error``), and NotAllowed for a statement that would end the
        transaction or outlive it.
        """

    def send(self, queue: str, message: str) -> None:
        """Send a follow-up request to ``queue``, if and only if this transaction commits."""


class Handler(Protocol):
    """Serves ``request``. Returning commits; any exception rolls back.

    ``request.message_id`` identifies the request for ever: pass it to external services as their
    idempotency key.
    """

    def __call__(self, request: Request, db: Transaction, /) -> object:
        """Serve a request. The return value is ignored."""
