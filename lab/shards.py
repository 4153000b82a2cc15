"""Simulates how a hash of their names spreads clients over queues: how evenly, and which move.

python -m lab.shards: the tables of docs/scale.md. No server is needed.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping

import click

QUEUES = (2, 4, 8, 16)
CLIENTS = (10, 100, 1_000, 100_000)
ROUNDS = 20
"""Sets of names; the tables show the median and the worst."""


def shard(client: str, queues: Iterable[str]) -> str:
    """Return the queue of a client: the one whose hash with the client's name is highest.

    When a queue is added, only clients that belong to it move (rendezvous hashing).
    """
    return max(queues, key=lambda queue: _weight(client, queue))


def _weight(client: str, queue: str) -> bytes:
    return hashlib.blake2b(f"{queue}\0{client}".encode(), digest_size=8).digest()


def names(queues: int) -> list[str]:
    """Return the names of ``count`` queues."""
    return [f"requests-{number}" for number in range(queues)]


def fullest(rates: Mapping[str, float], queues: int) -> float:
    """Return the load of the fullest queue; 1 is an even share."""
    load: Counter[str] = Counter()
    for client, rate in rates.items():
        load[shard(client, names(queues))] += rate  # type: ignore[assignment]  # fractions too
    return max(load.values()) / sum(rates.values()) * queues


def moved(clients: Iterable[str], queues: int) -> float:
    """Return the share of clients that move when a queue is added."""
    before, after = names(queues), names(queues + 1)
    both = [shard(client, before) != shard(client, after) for client in clients]
    return sum(both) / len(both)


def equal(clients: int, seed: int) -> dict[str, float]:
    """Return clients that all send the same amount."""
    return {f"client-{seed}-{number}": 1.0 for number in range(clients)}


def skewed(clients: int, seed: int) -> dict[str, float]:
    """Return clients of which the n-th sends 1/n of the first one's amount (Zipf)."""
    places = list(range(1, clients + 1))
    random.Random(seed).shuffle(places)
    return {f"client-{seed}-{number}": 1 / place for number, place in enumerate(places)}


@click.command()
def main() -> None:
    """Print the load of the fullest queue, and how many clients another queue moves."""
    for title, make in (("all send as much", equal), ("the n-th sends 1/n", skewed)):
        click.echo(f"| {title} | " + " | ".join(f"{q} queues" for q in QUEUES) + " |")
        click.echo("|---|" + "---|" * len(QUEUES))
        for clients in CLIENTS:
            cells = []
            for queues in QUEUES:
                rounds = ROUNDS if clients < CLIENTS[-1] else 1
                found = sorted(fullest(make(clients, seed), queues) for seed in range(rounds))
                cells.append(f"{found[len(found) // 2]:.2f}, at worst {found[-1]:.2f}")
            click.echo(f"| {clients:,} clients | " + " | ".join(cells) + " |")
        click.echo()
    for queues in QUEUES:
        share = moved(equal(10_000, 0), queues)
        click.echo(f"{queues} to {queues + 1} queues: {share:.1%} of the clients move")


if __name__ == "__main__":
    main()
