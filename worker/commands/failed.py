"""``worker failed``."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from turnwise import cli
from turnwise.database import Connection, Database, translating
from turnwise.errors import TurnwiseError
from turnwise.failed import Failed
from turnwise.options import mysql_option
from worker import failed
from worker.commands.shared import connection_to, progress
from worker.failed import Identity


class FailureNotFound(TurnwiseError):
    """No such failure."""


class _Id(click.ParamType[Identity]):
    name = "id"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Identity:
        client, _, counter = str(value).rpartition("/")
        if not client or not re.fullmatch(r"[1-9]\d{0,18}", counter, re.ASCII):
            self.fail(f"{value!r} is not an ID; write CLIENT/COUNTER", param, ctx)
        return client, int(counter)


client_option = click.option("--client", help="All failures of this client.")
all_option = click.option(
    "--all", "everything", is_flag=True, help="All failures that are there now."
)
ids_argument = click.argument("ids", nargs=-1, type=_Id(), metavar="[ID]...")


@click.group("failed", cls=cli.Group)
def command() -> None:
    """List, retry or drop requests that a handler failed to serve.

    A request's ID is CLIENT/COUNTER. A request with attempts left is served again when it is due;
    one that was given up stays until 'retry' or 'drop'.
    """


@command.command("list")
@click.option("--client", help="Only this client's.")
@cli.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="The most to list."
)
@cli.json_option
@mysql_option
def list_(client: str | None, limit: int, as_json: bool, database: Database) -> None:
    """List the failures, each with its state and its last error."""
    with connection_to(database, "worker failed") as connection, translating(database):
        found = list(itertools.islice(failed.walk(connection, client=client, dropped=True), limit))
        total = failed.count(connection, client)
    if as_json:
        for each in found:
            click.echo(json.dumps(_as_json(each)))
        return
    if not found:
        click.echo("no failures")
    for each in found:
        click.echo(f"{each.id}  {each.state}{_due(each)}, attempts {each.attempts:,}")
        click.echo(f"    {each.error}")
    if len(found) == limit and total > limit:
        click.echo(f"{total:,} in all; a larger --limit shows more", err=True)


@command.command()
@click.argument("identity", type=_Id(), metavar="ID")
@cli.json_option
@mysql_option
def show(identity: Identity, as_json: bool, database: Database) -> None:
    """Show one failure in full, with its message and the traceback of the last attempt."""
    with connection_to(database, "worker failed") as connection, translating(database):
        found = failed.find(connection, identity)
    if found is None:
        raise FailureNotFound(f"no failure {identity[0]}/{identity[1]}")
    if as_json:
        click.echo(json.dumps(_as_json(found)))
        return
    for name, value in (
        ("id", found.id),
        ("state", f"{found.state}{_due(found)}"),
        ("reason", found.reason),
        ("error", found.error),
        ("attempts", f"{found.attempts:,}, of which {found.deaths:,} ended a worker"),
        ("last by", f"{found.failed_by}, {found.failed_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("sent at", f"{found.sent_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("message", _printable(found.message)),
    ):
        click.echo(f"{name:<9} {value}")
    if found.traceback:
        click.echo(f"\n{_printable(found.traceback)}", nl=False)


@command.command()
@ids_argument
@client_option
@all_option
@mysql_option
def retry(
    ids: tuple[Identity, ...], client: str | None, everything: bool, database: Database
) -> None:
    """Serve failures again at once, with their attempts reset."""
    _change(failed.retry, "retrying", ids, client, everything, database)


@command.command()
@ids_argument
@client_option
@all_option
@mysql_option
def drop(
    ids: tuple[Identity, ...], client: str | None, everything: bool, database: Database
) -> None:
    """Give up failures for good.

    Their messages are removed. Their IDs are kept, so that the audit accounts for them and a repeat
    is not served either. If an attempt that is already under way succeeds, the request is served
    all the same.
    """
    _change(failed.drop, "dropped", ids, client, everything, database)


def _change(
    change: Callable[[Connection, Sequence[Identity]], int],
    what: str,
    ids: tuple[Identity, ...],
    client: str | None,
    everything: bool,
    database: Database,
) -> None:
    if [bool(ids), client is not None, everything].count(True) != 1:
        raise click.UsageError("name the failures by ID, or give --client CLIENT or --all")
    with connection_to(database, "worker failed") as connection, translating(database):
        if not ids:
            done = failed.change_all(connection, change, client, progress(what))
            click.echo(f"{what} {done:,}")
            return
        missing = [each for each in ids if not change(connection, [each])]
    click.echo(f"{what} {len(ids) - len(missing):,}")
    if missing:
        names = ", ".join(f"{name}/{counter}" for name, counter in missing)
        raise FailureNotFound(f"no failure {names}")


def _due(each: Failed) -> str:
    if each.due_at is None:
        return ""
    seconds = (each.due_at - datetime.now(UTC)).total_seconds()
    return ", due now" if seconds <= 0 else f", due in {seconds:,.0f} s"


def _printable(text: str) -> str:
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def _as_json(each: Failed) -> dict[str, Any]:
    fields = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in dataclasses.asdict(each).items()
    }
    return {"id": each.id, "state": each.state, **fields}
