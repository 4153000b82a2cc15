"""What a handler is: a function of the user's that serves a request within its one commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from turnwise.message import Request

LONGEST_RETRY = 30 * 24 * 3600.0
"""Seconds that a handler may put a request off at most: a month."""


class Reject(Exception):
    """The handler will never serve this request.

    Its effects are rolled back and the request is given up at once, with ``reason``, until
    somebody asks for it with 'worker failed retry'.
    """

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):
    """The handler cannot serve this request now.

    Its effects are rolled back and the request is served again ``after`` so many seconds (0 to
    2,592,000), or after the usual wait if that is None. It counts as an attempt. Raises ValueError
    for any other number.
    """

    def __init__(self, reason: str = "not now", *, after: float | None = None) -> None:
        super().__init__(reason)
        if after is not None and not 0 <= after <= LONGEST_RETRY:
            raise ValueError(f"after must be between 0 and {LONGEST_RETRY:.0f} seconds")
        self.reason = reason
        self.after = None if after is None else float(after)


class Rows(Protocol):
    """What a statement answered. Iterating over it gives the rows, as tuples."""

    @property
    def rowcount(self) -> int:
        """The number of rows: changed by a write, found by a query."""

    @property
    def lastrowid(self) -> int:
        """The AUTO_INCREMENT value that an INSERT drew; 0 if it drew none."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows that were not fetched yet."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row; None if there is none left."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows that were not fetched yet."""


class Transaction(Protocol):
    """The one transaction that serves a request, as a handler sees it."""

    def execute(self, sql: str, args: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        """Run one statement: a query, INSERT, UPDATE, DELETE or REPLACE.

        ``%s`` stands for the next of ``args``, ``%(name)s`` for one of a mapping. Raises the
        driver's errors (``pymysql.Error``), and NotAllowed for what would end the transaction or
        outlive it.
        """

    def send(self, queue: str, message: str) -> None:
        """Leave a follow-up request for ``queue``. It is sent if, and only if, this one commits."""


class Handler(Protocol):
    """Serves ``request``. Returning commits; any exception rolls back.

    ``request.message_id`` names the request for ever: hand it to outside services as their
    idempotency key.
    """

    def __call__(self, request: Request, db: Transaction, /) -> object:
        """Serve a request. What it returns is not looked at."""
