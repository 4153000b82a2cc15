"""``worker audit``."""

from __future__ import annotations

import dataclasses
import json

import click

from turnwise import audit as audits
from turnwise import cli
from turnwise.database import Database, translating
from turnwise.errors import ExitCode
from turnwise.options import mysql_option
from worker.commands.shared import connection_to, print_table, progress


@click.command("audit", cls=cli.Command)
@click.option("--recount", is_flag=True, help="Trust nothing that was counted before.")
@cli.json_option
@mysql_option
@click.pass_context
def command(ctx: click.Context, recount: bool, as_json: bool, database: Database) -> None:
    """Tell for each client what was served, and whether anything is missing. Exit 1 on a gap.

    A request that a worker has in hand at this moment counts as missing; ask again.

    The workers count as they go, so this takes no time however many rows there are. Rows that
    somebody removed or restored by hand are noticed with --recount, which may take minutes.
    """
    with connection_to(database, "worker audit") as connection, translating(database):
        if recount:
            audits.recount(connection, progress=progress("counting"))
        found = audits.audit(connection, progress=progress("counting"))
    if as_json:
        click.echo(json.dumps({"holds": found.holds, **dataclasses.asdict(found)}))
    else:
        _print_audit(found)
    if not found.holds:
        ctx.exit(ExitCode.FAILED)


def _print_audit(audit: audits.Audit) -> None:
    head = ["client", "served", "highest", "missing", "repeated", "resume at"]
    print_table(
        head,
        [
            [a.client, a.served, a.highest, a.missing, a.repeated, a.resume_at]
            for a in audit.clients
        ],
    )
    for account in audit.clients:
        if account.gaps:
            gaps = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in account.gaps)
            click.echo(f"missing of {account.client}: {gaps}")
    for replica, count in audit.served_by.items():
        click.echo(f"served by {replica}: {count:,}")
