"""Clients are spread over queues by their names."""

from __future__ import annotations

import pytest

from lab.shards import equal, fullest, moved, names, shard, skewed


def test_a_client_always_has_the_same_queue() -> None:
    queues = names(8)
    for client in equal(100, 1):
        assert shard(client, queues) == shard(client, reversed(queues))


@pytest.mark.parametrize("queues", [2, 5, 8])
def test_an_added_queue_takes_its_share_from_all_others_and_moves_no_other_client(
    queues: int,
) -> None:
    clients = list(equal(5_000, 2))
    new = names(queues + 1)[-1]
    gone = [c for c in clients if shard(c, names(queues)) != shard(c, names(queues + 1))]
    assert {shard(client, names(queues + 1)) for client in gone} == {new}
    assert moved(clients, queues) == pytest.approx(1 / (queues + 1), rel=0.15)


def test_many_clients_of_a_kind_spread_evenly_and_a_large_one_does_not() -> None:
    assert fullest(equal(10_000, 3), 4) < 1.1
    # A client that sends a fifth of all requests fills one queue of eight by itself.
    assert fullest(skewed(100, 3), 8) > 1.5
