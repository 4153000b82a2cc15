"""``worker migrate``."""

from __future__ import annotations

import click

from turnwise import cli, log
from turnwise.database import Database
from turnwise.options import mysql_option
from worker.commands.shared import connection_to
from worker.schema import VERSION, migrate


@click.command("migrate", cls=cli.Command)
@cli.log_options
@mysql_option
def command(log_level: str, log_format: str, database: Database) -> None:
    """Create or upgrade the tables. 'worker run' does so too, if its account may."""
    log.configure(log_level, log_format)
    with connection_to(database, "worker migrate") as connection:
        steps = migrate(connection, database)
    click.echo(f"{database}: version {VERSION}, {steps or 'no'} step(s) applied")
