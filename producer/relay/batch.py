"""A batch: rows of the outbox that got consecutive numbers in one commit. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

Range = tuple[int, int]
"""The first and the last of consecutive ids."""


@dataclass(frozen=True, slots=True)
class Batch:
    """``size`` rows, numbered ``first``, ``first + 1`` ... as requests of ``client``."""

    queue: str
    client: str
    first: int
    size: int
    ranges: tuple[Range, ...]
    """The ids of the rows, ascending, in the order of their numbers."""

    @classmethod
    def of(cls, queue: str, client: str, first: int, ids: Sequence[int]) -> Self:
        """Create a batch from ascending ids."""
        return cls(queue, client, first, len(ids), tuple(ranges(ids)))

    @property
    def last(self) -> int:
        """The number of the last request."""
        return self.first + self.size - 1

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the rows, one by one."""
        return tuple(chain.from_iterable(range(first, last + 1) for first, last in self.ranges))

    def apart(self, odd: Collection[int]) -> Iterator[Self]:
        """Split the batch, keeping all numbers, so that each ``odd`` row is a batch by itself."""
        ids = self.ids
        begin = 0
        for place, each in enumerate(ids):
            if each in odd:
                if begin < place:
                    yield self.of(self.queue, self.client, self.first + begin, ids[begin:place])
                yield self.of(self.queue, self.client, self.first + place, [each])
                begin = place + 1
        if begin < len(ids):
            yield self.of(self.queue, self.client, self.first + begin, ids[begin:])


def ranges(ids: Iterable[int]) -> Iterator[Range]:
    """Yield ascending ids as ranges of consecutive ids."""
    first = last = None
    for each in ids:
        if last is not None and each == last + 1:
            last = each
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = each
    if first is not None and last is not None:
        yield first, last


def merge(unordered: Iterable[Range]) -> list[Range]:
    """Return the fewest ranges that hold the same ids, ascending."""
    merged: list[Range] = []
    for first, last in sorted(unordered):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged


def write_ranges(of: Iterable[Range]) -> str:
    """Return ranges as text, as the table stores them: ``4-6,9``."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in of)


def read_ranges(text: str) -> tuple[Range, ...]:
    """Parse the text that write_ranges() returns."""
    parts = (part.partition("-") for part in text.split(","))
    return tuple((int(first), int(last or first)) for first, _, last in parts)
