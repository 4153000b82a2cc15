"""``producer status``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import click

from producer.commands.shared import given, outbox_option
from producer.outbox import read_status
from turnwise import cli, outbox_status
from turnwise.database import Database, translating
from turnwise.options import optional_mysql_option
from turnwise.outbox_status import COUNTED, OutboxStatus


@click.command("status", cls=cli.Command)
@outbox_option
@click.option("--table", is_flag=True, help="Report on the table 'outbox' in the database.")
@optional_mysql_option
@cli.json_option
@click.pass_context
def command(
    ctx: click.Context, path: Path, table: bool, database: Database | None, as_json: bool
) -> None:
    """Show how many requests are accepted, confirmed and waiting, even while a producer runs.

    It reports on the outbox file; with --table, or --mysql-url on the command line, on the table
    'outbox', which 'producer relay' publishes.
    """
    named = given(ctx)
    if table or "database" in named:
        if "path" in named:
            raise click.UsageError("give either --outbox or --table")
        if database is None:
            raise click.UsageError("--table needs --mysql-url, MYSQL_URL or MYSQL_URL_FILE")
        _report_table(database, as_json=as_json)
        return
    figures = read_status(path)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(figures)))
        return
    click.echo(f"client     {figures.client}")
    click.echo(f"accepted   {figures.accepted:,}")
    click.echo(f"confirmed  {figures.confirmed:,}")
    click.echo(f"waiting    {figures.waiting:,}")


def _report_table(database: Database, *, as_json: bool) -> None:
    with (
        contextlib.closing(database.connect("producer status")) as connection,
        translating(database),
    ):
        status = outbox_status.read(connection)
    if as_json:
        fields = {"waiting": status.waiting, "oldest_seconds": status.oldest_seconds}
        click.echo(json.dumps({**dataclasses.asdict(status), **fields}))
        return
    click.echo(f"relay      {_relay(status)}")
    for queue in status.queues:
        click.echo(f"queue      {queue.queue}")
        click.echo(f"client     {queue.client or 'none yet'}")
        click.echo(f"numbered   {queue.numbered:,}")
        click.echo(f"confirmed  {queue.confirmed:,}")
        oldest = f", the oldest for {queue.oldest_seconds:,.1f} s" if queue.waiting else ""
        click.echo(f"waiting    {queue.waiting:,}{oldest}")
    if status.waiting >= COUNTED:
        click.echo(f"more than {COUNTED:,} are waiting; only those were counted")
    if not status.queues:
        click.echo("waiting    0")


def _relay(status: OutboxStatus) -> str:
    if status.relay is None:
        return "none is at work"
    return f"{status.relay}, seen {status.seen_seconds:,.1f} s ago"
