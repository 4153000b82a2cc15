"""One queue's line: the requests numbered for it and not yet confirmed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from producer.relay.batch import Batch, Range
from turnwise.errors import InvalidRequest
from turnwise.message import write


class Row(NamedTuple):
    """A row of the outbox."""

    id: int
    queue: str
    message: str
    created_at: datetime | str
    """In UTC; the database's text if that is not a valid time, such as 0000-00-00."""


Written = tuple[int, bytes, bytes]
"""A request: its number, and its body and properties in wire format."""

Invalid = tuple[Row, InvalidRequest]
"""A row that is not a valid request, and the reason."""


class Line:
    """The numbered requests of a queue, in order. Implements ``producer.publisher.Backlog``."""

    def __init__(self, queue: str, client: str, last: int) -> None:
        """``last`` is the last number assigned."""
        self.queue = queue
        self.client = client
        self.accepted = last
        self._requests: dict[int, Written] = {}
        self._unconfirmed: dict[int, _Unconfirmed] = {}  # by first number, ascending
        self._confirmed: list[Batch] = []

    def __len__(self) -> int:
        """Return how many requests are not confirmed."""
        return len(self._requests)

    @property
    def ranges(self) -> Iterator[Range]:
        """The rows that need not be read again: they are numbered and still in the table."""
        for unconfirmed in self._unconfirmed.values():
            yield from unconfirmed.batch.ranges
        for batch in self._confirmed:
            yield from batch.ranges

    def number_rows(self, rows: Iterable[Row]) -> tuple[Numbered, list[Invalid]]:
        """Number rows, continuing from the last number. Returns invalid rows separately."""
        ids: list[int] = []
        requests: list[Written] = []
        invalid: list[Invalid] = []
        for row in rows:
            try:
                requests.append(_write(self.client, self.accepted + len(ids) + 1, row))
            except InvalidRequest as error:
                invalid.append((row, error))
            else:
                ids.append(row.id)
        batch = Batch.of(self.queue, self.client, self.accepted + 1, ids)
        return Numbered(batch, requests), invalid

    def add(self, numbered: Numbered) -> None:
        """Add a numbered batch once it is committed. Lower numbers may be added later."""
        batch = numbered.batch
        late = batch.first <= next(reversed(self._requests), 0)
        self._requests.update((written[0], written) for written in numbered.requests)
        self.accepted = max(self.accepted, batch.last)
        if numbered.requests:
            self._unconfirmed[batch.first] = _Unconfirmed(batch, len(numbered.requests))
        else:
            self._confirmed.append(batch)
        if late:
            self._requests = dict(sorted(self._requests.items()))
            self._unconfirmed = dict(sorted(self._unconfirmed.items()))

    def after(self, number: int, limit: int) -> Iterator[Written]:
        """Yield at most ``limit`` requests numbered above ``number``, lowest first."""
        if not self._requests:
            return
        for counter in range(max(number + 1, next(iter(self._requests))), self.accepted + 1):
            if limit == 0:
                return
            if written := self._requests.get(counter):
                limit -= 1
                yield written

    def number(self, message_id: str) -> int:
        """Return the number in a request's identity."""
        return int(message_id.rpartition("/")[2])

    def forget(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Record that requests are confirmed. A range is a first and a last number, inclusive."""
        for first, last in ranges:
            for counter in range(first, last + 1):
                del self._requests[counter]
            for unconfirmed in list(self._unconfirmed.values()):
                batch = unconfirmed.batch
                if batch.first > last:
                    break
                unconfirmed.left -= max(0, min(last, batch.last) - max(first, batch.first) + 1)
                if unconfirmed.left == 0:
                    del self._unconfirmed[batch.first]
                    self._confirmed.append(batch)

    @property
    def confirmed(self) -> Sequence[Batch]:
        """The batches that are fully confirmed and whose rows may be deleted."""
        return self._confirmed

    def removed(self) -> None:
        """Record that the rows of the confirmed batches are deleted."""
        self._confirmed = []


@dataclass(frozen=True, slots=True)
class Numbered:
    """A batch and its requests."""

    batch: Batch
    requests: list[Written]


@dataclass(slots=True)
class _Unconfirmed:
    batch: Batch
    left: int


def restore(batch: Batch, rows: Mapping[int, Row]) -> tuple[Numbered, list[Invalid]]:
    """Return the requests of a recorded batch. Deleted rows are left out.

    Rows that were changed and are no longer valid requests are returned separately.
    """
    requests: list[Written] = []
    invalid: list[Invalid] = []
    for counter, each in enumerate(batch.ids, batch.first):
        if row := rows.get(each):
            try:
                requests.append(_write(batch.client, counter, row))
            except InvalidRequest as error:
                invalid.append((row, error))
    return Numbered(batch, requests), invalid


def _write(client: str, counter: int, row: Row) -> Written:
    if isinstance(row.created_at, str):
        raise InvalidRequest("created_at", f"is {row.created_at!r}")
    return (counter, *write(client, counter, row.message, row.created_at))
