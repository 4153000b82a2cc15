"""Clients spread over several queues by a hash of their name: how evenly, and who moves.

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
"""Sets of names; what is told is their median and their worst."""


def shard(client: str, queues: Iterable[str]) -> str:
    """Return the queue of a client: the one whose hash together with the name is highest.

    With one queue more, those that move all move to it (rendezvous hashing).
    """
    return max(queues, key=lambda queue: _weight(client, queue))


def _weight(client: str, queue: str) -> bytes:
    return hashlib.blake2b(f"{queue}\0{client}".encode(), digest_size=8).digest()


def names(queues: int) -> list[str]:
    """Return so many queues' names."""
    return [f"requests-{number}" for number in range(queues)]


def fullest(rates: Mapping[str, float], queues: int) -> float:
    """Return the load of the fullest queue; 1 is an even share."""
    load: Counter[str] = Counter()
    for client, rate in rates.items():
        load[shard(client, names(queues))] += rate  # type: ignore[assignment]  # fractions too
    return max(load.values()) / sum(rates.values()) * queues


def moved(clients: Iterable[str], queues: int) -> float:
    """Return the share of clients that another queue is for once there is one more."""
    before, after = names(queues), names(queues + 1)
    both = [shard(client, before) != shard(client, after) for client in clients]
    return sum(both) / len(both)


def equal(clients: int, seed: int) -> dict[str, float]:
    """Return clients that all send as much."""
    return {f"client-{seed}-{number}": 1.0 for number in range(clients)}


def skewed(clients: int, seed: int) -> dict[str, float]:
    """Return clients of which the n-th sends 1/n of what the first one does (Zipf)."""
    places = list(range(1, clients + 1))
    random.Random(seed).shuffle(places)
    return {f"client-{seed}-{number}": 1 / place for number, place in enumerate(places)}


@click.command()
def main() -> None:
    """Print how full the fullest queue is, and how many clients a further queue moves."""
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
