"""A batch: rows of the outbox that were given consecutive numbers in one commit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows ``ids`` are the requests ``first``, ``first + 1`` ... of ``client``."""

    queue: str
    client: str
    first: int
    ids: tuple[int, ...]

    @property
    def last(self) -> int:
        """The number of its last request."""
        return self.first + len(self.ids) - 1


def ranges(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield ascending ids as ranges without a hole: the first and the last id of each."""
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


def write_ids(ids: Sequence[int]) -> str:
    """Return ascending ids as the table keeps them: ``4-6,9``."""
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges(ids))


def read_ids(text: str) -> tuple[int, ...]:
    """Return the ids that write_ids() wrote."""
    ids: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        ids.extend(range(int(first), int(last or first) + 1))
    return tuple(ids)
