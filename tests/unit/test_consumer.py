"""What a worker puts into one statement."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from turnwise.deliveries import Delivery
from turnwise.message import MAX_BODY_BYTES
from worker.consumer import take_batch

MAX_PACKET = 1_000_000


def delivery(tag: int, size: int) -> Delivery:
    return Delivery(tag, b"", bytes(size), 0.0)


@given(
    sizes=st.lists(st.integers(0, MAX_BODY_BYTES), min_size=1, max_size=50),
    name=st.text("w", min_size=1, max_size=255),
)
def test_batches_keep_order_and_stay_below_the_packet_limit(sizes: list[int], name: str) -> None:
    arrived = deque(delivery(tag, size) for tag, size in enumerate(sizes))
    taken: list[int] = []
    while arrived:
        batch = take_batch(arrived, name)
        # A body may double when it is escaped; a row names the worker and a function.
        statement = sum(2 * len(each.body) + len(name) + 50 for each in batch)
        assert statement < MAX_PACKET
        taken += [each.tag for each in batch]
    assert taken == list(range(len(sizes)))


def test_many_small_requests_of_a_worker_with_a_long_name_are_several_statements() -> None:
    arrived = deque(delivery(tag, 72) for tag in range(10_000))
    batch = take_batch(arrived, "w" * 255)
    assert 500 < len(batch) < 10_000
    assert len(batch) * (2 * 72 + 255 + 50) < MAX_PACKET
