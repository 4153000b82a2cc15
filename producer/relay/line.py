"""One queue's line: what is numbered for it and not yet confirmed. Pure; a publisher's backlog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from producer.relay.batch import Batch
from turnwise.errors import InvalidRequest
from turnwise.message import Request


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the outbox."""

    id: int
    queue: str
    message: str
    created_at: datetime


class Line:
    """The numbered requests of a queue, in order. Implements ``producer.publisher.Backlog``."""

    def __init__(self, queue: str, client: str, last: int) -> None:
        """``last`` is the last number given out."""
        self.queue = queue
        self.client = client
        self.accepted = last
        self._requests: dict[int, Request] = {}
        self._unconfirmed: dict[int, _Unconfirmed] = {}  # by their first number, lowest first
        self._confirmed: list[Batch] = []

    def __len__(self) -> int:
        """Return how many requests are not confirmed."""
        return len(self._requests)

    @property
    def ids(self) -> Iterator[int]:
        """The rows that need not be read again: they are numbered, and still in the table."""
        for unconfirmed in self._unconfirmed.values():
            yield from unconfirmed.batch.ids
        for batch in self._confirmed:
            yield from batch.ids

    def number_rows(self, rows: Iterable[Row]) -> tuple[Numbered, list[tuple[Row, InvalidRequest]]]:
        """Number rows on from the last number. Returns those that are no requests apart."""
        ids: list[int] = []
        requests: list[Request] = []
        invalid: list[tuple[Row, InvalidRequest]] = []
        for row in rows:
            counter = self.accepted + len(ids) + 1
            try:
                requests.append(_request(self.client, counter, row))
            except InvalidRequest as error:
                invalid.append((row, error))
            else:
                ids.append(row.id)
        batch = Batch(self.queue, self.client, self.accepted + 1, tuple(ids))
        return Numbered(batch, requests), invalid

    def add(self, numbered: Numbered) -> None:
        """Take what is numbered once that is written down."""
        batch = numbered.batch
        self._requests.update((request.counter, request) for request in numbered.requests)
        self.accepted = max(self.accepted, batch.last)
        if numbered.requests:
            self._unconfirmed[batch.first] = _Unconfirmed(batch, len(numbered.requests))
        else:
            self._confirmed.append(batch)

    def after(self, number: int, limit: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield at most ``limit`` requests numbered above ``number``, lowest first."""
        if not self._requests:
            return
        for counter in range(max(number + 1, next(iter(self._requests))), self.accepted + 1):
            if limit == 0:
                return
            if request := self._requests.get(counter):
                limit -= 1
                yield counter, request.encode(), request.encode_properties()

    def number(self, message_id: str) -> int:
        """Return the number in a request's identity."""
        return int(message_id.rpartition("/")[2])

    def forget(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Take note that requests are confirmed, each range by its first and last number."""
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
        """The batches that are wholly confirmed, and whose rows may go."""
        return self._confirmed

    def removed(self) -> None:
        """Note that the rows of the confirmed batches are gone."""
        self._confirmed = []


@dataclass(frozen=True, slots=True)
class Numbered:
    """A batch and its requests."""

    batch: Batch
    requests: list[Request]


@dataclass(slots=True)
class _Unconfirmed:
    batch: Batch
    left: int


def restore(batch: Batch, rows: Iterable[Row]) -> Numbered:
    """Return the requests of a batch that is written down. Rows that are gone have none."""
    numbers = {row_id: counter for counter, row_id in enumerate(batch.ids, batch.first)}
    return Numbered(batch, [_request(batch.client, numbers[row.id], row) for row in rows])


def _request(client: str, counter: int, row: Row) -> Request:
    if not isinstance(row.created_at, datetime):
        # The driver gives a date such as 0000-00-00 back as it is.
        raise InvalidRequest("created_at", f"is {row.created_at!r}")
    return Request(client, counter, row.message, row.created_at.replace(tzinfo=UTC))
