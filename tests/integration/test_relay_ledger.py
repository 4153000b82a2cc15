"""Fencing: a superseded relay writes nothing, and a frozen one does not lock others out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from producer.relay import ledger
from producer.relay.batch import Batch
from producer.relay.ledger import Charge, Ledger, TakenOver
from producer.relay.sight import Look
from tests.pipeline import Pipeline
from turnwise import outbox
from turnwise.database import parse_url

TABLES = ("outbox", "outbox_relay", "outbox_clients", "outbox_batches")


@pytest.fixture
def ledgers(pipeline: Pipeline) -> Iterator[tuple[Ledger, Ledger]]:
    """Yield the ledgers of two relays."""
    pipeline.run("worker", "migrate")
    with pipeline.servers.database.connect(pipeline.name) as cursor:
        for number in range(5):
            outbox.send(cursor, "requests", f"m{number}")
    database = parse_url(pipeline.mysql_url)
    both = Ledger(database, "first", "client"), Ledger(database, "second", "client")
    yield both
    for each in both:
        each.close()


def take(of: Ledger) -> Charge:
    """Take over, whichever relay is working."""
    charge = of.acquire(of.state())
    assert charge is not None
    return charge


def content(pipeline: Pipeline) -> list[object]:
    """Return the contents of all tables."""
    query = pipeline.servers.database.query
    return [query(f"SELECT * FROM {table}", name=pipeline.name) for table in TABLES]


def batch(client: str, first: int, *ids: int) -> Batch:
    return Batch.of("requests", client, first, ids)


WRITES: dict[str, Callable[[Ledger, int, str], object]] = {
    "number": lambda one, epoch, client: one.write(epoch, [batch(client, 3, 3)], [], 3, 0),
    "remove": lambda one, epoch, client: one.write(epoch, [], [batch(client, 1, 1, 2)], 2, 0),
    "show a sign of life": lambda one, epoch, _: one.renew(epoch),
    "name a client": lambda one, epoch, _: one.add_client(epoch, "other"),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_superseded_relay_writes_nothing(
    pipeline: Pipeline, ledgers: tuple[Ledger, Ledger], write: str
) -> None:
    first, second = ledgers
    epoch = take(first).epoch
    client = first.add_client(epoch, "requests")
    first.write(epoch, [batch(client, 1, 1, 2)], [], 2, 0)
    found = take(second)
    assert found.clients == {"requests": (client, 2)}
    assert [(b.client, b.first, b.ids) for b in found.batches] == [(client, 1, (1, 2))]
    before = content(pipeline)
    with pytest.raises(TakenOver):
        WRITES[write](first, epoch, client)
    first.release(epoch)  # has no effect: another relay has taken over
    assert content(pipeline) == before
    # The working relay may do the same.
    WRITES[write](second, found.epoch, client)
    assert content(pipeline) != before


def test_only_one_of_two_relays_that_saw_the_same_state_takes_over(
    ledgers: tuple[Ledger, Ledger],
) -> None:
    first, second = ledgers
    seen = first.state()
    assert second.state() == seen
    assert first.acquire(seen)
    assert second.acquire(seen) is None


def test_a_heartbeat_at_the_last_moment_prevents_a_takeover(ledgers: tuple[Ledger, Ledger]) -> None:
    first, second = ledgers
    epoch = take(first).epoch
    seen = second.state()
    first.renew(epoch)
    assert second.acquire(seen) is None


def test_the_server_ends_the_transaction_of_a_frozen_relay(
    ledgers: tuple[Ledger, Ledger],
) -> None:
    """It holds the lock on the only row, and its connection stays open."""
    first, second = ledgers
    take(first)
    frozen = first._connection  # noqa: SLF001 - in the midst of its write
    assert frozen is not None
    frozen.begin()
    frozen.query(ledger._RENEW % 1)  # noqa: SLF001
    begun = time.monotonic()
    charge = None
    while charge is None:
        try:
            charge = second.acquire(second.state())
        except ledger.LedgerAway as error:
            assert error.code == 1205, error  # noqa: PT017 - it waits for the lock
    assert time.monotonic() - begun < 3 * ledger.SILENCE


def test_the_relay_refuses_a_number_changed_by_hand(
    pipeline: Pipeline, ledgers: tuple[Ledger, Ledger]
) -> None:
    first, _ = ledgers
    epoch = take(first).epoch
    client = first.add_client(epoch, "requests")
    pipeline.servers.database.query("UPDATE outbox_clients SET last = 7", name=pipeline.name)
    before = content(pipeline)
    with pytest.raises(ledger.LedgerAway, match="not where this relay left them"):
        first.write(epoch, [batch(client, 1, 1)], [], 1, 0)
    assert content(pipeline) == before
    assert take(first).clients == {"requests": (client, 7)}


def test_a_look_skips_known_rows_and_stuck_queues(
    pipeline: Pipeline, ledgers: tuple[Ledger, Ledger]
) -> None:
    first, _ = ledgers
    with pipeline.servers.database.connect(pipeline.name) as cursor:
        outbox.send(cursor, "stuck", "waits")
        outbox.send(cursor, "requests", "m5")

    def ids(look: Look, limit: int = 100) -> list[int]:
        return [row.id for row in first.read(look, limit, [(2, 3)], ["stuck"])]

    assert ids(Look(0)) == [1, 4, 5, 7]
    assert ids(Look(0), limit=2) == [1, 4]
    assert ids(Look(1)) == [4, 5, 7]
    assert ids(Look(1, 4)) == [4]
