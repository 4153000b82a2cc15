"""Requests that are published and not yet confirmed. Pure: no connection, file or clock."""

from __future__ import annotations

from collections.abc import Iterable


class Window:
    """The requests in flight on one channel, and which of them the broker confirmed.

    A channel numbers its publishes 1, 2, 3 ... (delivery tags); a confirm covers one tag, or all up
    to it. Confirmed requests are returned as a few ranges of counters, since requests are published
    in ascending order and confirmed nearly in that order.
    """

    def __init__(self) -> None:
        self._in_flight: dict[int, int] = {}  # tag: counter
        self._oldest = 1  # no tag in flight is lower
        self._next = 1
        self._returned: set[int] = set()
        self._confirmed: list[tuple[int, int]] = []
        self.unroutable = 0
        """How many requests were returned because there was no queue for them."""
        self.refused = 0
        """How many requests the broker refused: nacked, or returned as unroutable."""

    def __len__(self) -> int:
        return len(self._in_flight)

    def published(self, counters: Iterable[int]) -> None:
        """Record the next publishes of the channel."""
        for tag, counter in enumerate(counters, self._next):
            self._in_flight[tag] = counter
            self._next = tag + 1

    def returned(self, counter: int) -> None:
        """Record a ``basic.return``. It arrives before the ack, which then confirms nothing."""
        self._returned.add(counter)

    def settle(self, tag: int, *, multiple: bool, taken: bool) -> None:
        """Record an ack (``taken``) or a nack, of one tag or of all in flight up to it."""
        if not multiple:
            counter = self._in_flight.pop(tag, None)
            if counter is not None:
                self._settle(counter, taken=taken)
            return
        end = min(tag + 1, self._next)
        for each in range(self._oldest, end):
            counter = self._in_flight.pop(each, None)
            if counter is not None:
                self._settle(counter, taken=taken)
        self._oldest = max(self._oldest, end)

    def take_confirmed(self) -> list[tuple[int, int]]:
        """Return the counters confirmed since the last call, as ranges (first, last)."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def _settle(self, counter: int, *, taken: bool) -> None:
        if not taken or counter in self._returned:
            self.unroutable += counter in self._returned
            self._returned.discard(counter)
            self.refused += 1
        elif self._confirmed and self._confirmed[-1][1] == counter - 1:
            self._confirmed[-1] = (self._confirmed[-1][0], counter)
        else:
            self._confirmed.append((counter, counter))
