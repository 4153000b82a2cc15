"""``worker dead``."""

from __future__ import annotations

import dataclasses
import json
import socket
from contextlib import AbstractContextManager
from typing import Any

import click

from turnwise import cli, log
from turnwise.dead_letters import DeadLetters, Settled, look
from turnwise.errors import TurnwiseError
from turnwise.letter import Letter
from turnwise.node import Node
from turnwise.options import amqp_option
from worker.commands.shared import progress


class LetterNotFound(TurnwiseError):
    """No such dead letter."""


@click.group("dead", cls=cli.Group)
def command() -> None:
    """List, replay or drop dead letters: messages that are not valid requests, or contradict one.

    A letter's ID is derived from its content; 'worker dead list' shows it. Listing changes nothing,
    not even the order. Only one process at a time may read the dead letters.
    """


@command.command("list")
@cli.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="The most to list."
)
@cli.queue_option
@cli.json_option
@amqp_option
def list_(limit: int, queue: str, as_json: bool, nodes: list[Node]) -> None:
    """List the dead letters, oldest first, each with its reason."""
    with _look(nodes, queue) as letters:
        found = letters.list(limit, progress("read"))
    if as_json:
        for letter in found:
            click.echo(json.dumps(_as_json(letter)))
        return
    if not found:
        click.echo("no dead letters")
    for letter in found:
        click.echo(f"{letter.id}  {letter.reason:<14}  {letter.message_id or '-'}")
        click.echo(f"{'':14}{letter.detail}")
        click.echo(f"{'':14}{letter.size:,} bytes: {letter.body}")


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All letters that are there now.")
@cli.queue_option
@amqp_option
def replay(ids: tuple[str, ...], everything: bool, queue: str, nodes: list[Node]) -> None:
    """Send dead letters back to the queue they came from.

    Each letter is removed once its copy in the queue is confirmed. One that is still not a valid
    request comes back.
    """
    chosen = _chosen(ids, everything)
    with _look(nodes, queue) as letters:
        settled = letters.replay(chosen, progress("read"))
    click.echo(f"replayed {settled.done:,}")
    if settled.unreadable:
        click.echo(
            f"left {settled.unreadable:,} that are too large, or whose properties cannot be read",
            err=True,
        )
    _require_all(settled)


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All letters that are there now.")
@cli.queue_option
@amqp_option
def drop(ids: tuple[str, ...], everything: bool, queue: str, nodes: list[Node]) -> None:
    """Remove dead letters for good."""
    chosen = _chosen(ids, everything)
    with _look(nodes, queue) as letters:
        settled = letters.drop(chosen, progress("read"))
    click.echo(f"dropped {settled.done:,}")
    _require_all(settled)


def _look(nodes: list[Node], queue: str) -> AbstractContextManager[DeadLetters]:
    log.configure("warning", "auto")
    return look(nodes, queue, f"worker dead {socket.gethostname()}")


def _chosen(ids: tuple[str, ...], everything: bool) -> frozenset[str] | None:
    if everything == bool(ids):
        raise click.UsageError("name the letters by ID, or give --all")
    return None if everything else frozenset(ids)


def _require_all(settled: Settled) -> None:
    if settled.missing:
        raise LetterNotFound(f"no dead letter {', '.join(sorted(settled.missing))}")


def _as_json(letter: Letter) -> dict[str, Any]:
    return {
        **dataclasses.asdict(letter),
        "died_at": letter.died_at.isoformat() if letter.died_at else None,
    }
