"""``worker dead``."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any

import click

from turnwise import cli, log
from turnwise.broker import Broker
from turnwise.errors import TurnwiseError
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.options import amqp_option
from turnwise.topology import Topology
from worker.dead import DeadLetters, Letter


class LetterNotFound(TurnwiseError):
    """No such dead letter."""


@click.group("dead", cls=cli.Group)
def command() -> None:
    """Look after the dead letters: messages that are no requests, or contradict a stored one.

    An ID is made of a letter's content, as 'worker dead list' shows it.
    """


@command.command("list")
@cli.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most."
)
@cli.queue_option
@cli.json_option
@amqp_option
def list_(limit: int, queue: str, as_json: bool, nodes: list[Node]) -> None:
    """List the dead letters, oldest first, each with its reason."""
    with _dead_letters(nodes, queue) as letters:
        found = list(itertools.islice(letters, limit))
    if as_json:
        for letter in found:
            click.echo(json.dumps(_as_json(letter)))
        return
    if not found:
        click.echo("no dead letters")
    for letter in found:
        click.echo(f"{letter.id}  {letter.reason:<14}  {letter.message_id or '-'}")
        click.echo(f"{'':14}{letter.detail}")
        click.echo(f"{'':14}{len(letter.body):,} bytes: {letter.preview}")


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that are there now.")
@cli.queue_option
@amqp_option
def replay(ids: tuple[str, ...], everything: bool, queue: str, nodes: list[Node]) -> None:
    """Send dead letters back to the queue they came from.

    Each is removed here once it is confirmed there. One that is still no request comes back.
    """
    with _dead_letters(nodes, queue) as letters:
        count = 0
        for letter in _chosen(letters, ids, everything):
            letters.replay(letter)
            count += 1
    click.echo(f"replayed {count:,}")


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that are there now.")
@cli.queue_option
@amqp_option
def drop(ids: tuple[str, ...], everything: bool, queue: str, nodes: list[Node]) -> None:
    """Remove dead letters for good."""
    with _dead_letters(nodes, queue) as letters:
        count = 0
        for letter in _chosen(letters, ids, everything):
            letters.drop(letter)
            count += 1
    click.echo(f"dropped {count:,}")


@contextlib.contextmanager
def _dead_letters(nodes: list[Node], queue: str) -> Iterator[DeadLetters]:

    log.configure("warning", "auto")
    with (
        contextlib.closing(Loop()) as loop,
        Broker.connect(loop, nodes, f"worker dead {socket.gethostname()}") as broker,
        contextlib.closing(DeadLetters(broker, Topology(queue))) as letters,
    ):
        yield letters


def _chosen(letters: DeadLetters, ids: tuple[str, ...], everything: bool) -> Iterator[Letter]:
    if everything == bool(ids):
        raise click.UsageError("name the letters by ID, or say --all")
    missing = set(ids)
    for letter in letters:
        if everything or letter.id in missing:
            missing.discard(letter.id)
            yield letter
        if not (everything or missing):
            break
    if missing:
        raise LetterNotFound(f"no dead letter {', '.join(sorted(missing))}")


def _as_json(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "message_id": letter.message_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "died_at": letter.died_at.isoformat() if letter.died_at else None,
        "size": len(letter.body),
        "body": letter.preview,
    }
