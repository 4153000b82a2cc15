"""``worker prune``."""

from __future__ import annotations

import time
from datetime import timedelta

import click

from turnwise import cli, parameters
from turnwise.database import Connection, Database, translating
from turnwise.errors import Transient
from turnwise.options import mysql_option
from turnwise.retry import persist
from worker.commands.shared import connection_to, progress
from worker.pruning import MOST_COUNTED, how_many, prune


@click.command("prune", cls=cli.Command)
@click.option("--older-than", type=parameters.Duration(), required=True,
              help="Remove what was served longer ago than this: 30d, 12h, 15m, 90s.")  # fmt: skip
@click.option(
    "--every",
    type=parameters.Duration(),
    help="Keep running and prune at this interval; wait if the database is unreachable.",
)
@click.option("--dry-run", is_flag=True, help="Show how many rows are that old, and remove none.")
@mysql_option
def command(older_than: float, every: float | None, dry_run: bool, database: Database) -> None:
    """Remove old rows; repeats of them are still recognised.

    A repeat of a removed request is recognised for ever, whatever its message, since that can no
    longer be compared. A request that was missing is still served when it arrives. The audit counts
    removed requests as served.

    It removes rows in small steps while workers serve, and only those that the audit has counted.
    It may be interrupted at any time, and two may run at once. All workers must be of a release
    that has this command. To keep the removed rows, dump them first (docs/operations.md).
    """

    def once(_: object) -> None:
        with connection_to(database, "worker prune") as connection, translating(database):
            _prune(connection, timedelta(seconds=older_than), dry_run)

    if every is None or dry_run:
        once(None)
        return
    while True:
        begun = time.monotonic()
        # Rows removed before an error stay removed, so a retry simply starts over.
        persist(once, sleep=time.sleep, on_failure=_report)
        time.sleep(max(0.0, begun + every - time.monotonic()))


def _report(error: Transient, wait: float) -> None:
    click.echo(f"{error}; next attempt in {wait:.1f} s", err=True)


def _prune(connection: Connection, older_than: timedelta, dry_run: bool) -> None:
    total = how_many(connection, older_than)
    if dry_run:
        more = " or more" if total >= MOST_COUNTED else ""
        click.echo(f"{total:,}{more} rows are that old")
        return
    show = progress("removed")
    pruned = prune(
        connection, older_than, lambda so_far: show(so_far.removed, max(total, so_far.removed))
    )
    kept = f"; kept {pruned.kept:,} that are not counted yet" if pruned.kept else ""
    click.echo(f"removed {pruned.removed:,} rows{kept}")
