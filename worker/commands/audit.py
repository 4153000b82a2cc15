"""``worker audit``."""

from __future__ import annotations

import dataclasses
import json

import click

from turnwise import cli, parameters
from turnwise.account import Account, Audit, Totals
from turnwise.database import Database, translating
from turnwise.errors import ExitCode
from turnwise.message import MAX_CLIENT_LENGTH
from turnwise.options import mysql_option
from worker.commands.shared import connection_to, print_table, progress
from worker.counting import recount as count_again
from worker.sealing import SWEPT, move_seal

SHOWN = 100
"""The most clients shown with a line each, without --json."""


@click.command("audit", cls=cli.Command)
@click.option(
    "--recount", is_flag=True, help="Count all rows again, instead of relying on earlier counts."
)
@click.option("--client", type=parameters.Name(MAX_CLIENT_LENGTH), help="Audit only this client.")
@cli.json_option
@mysql_option
@click.pass_context
def command(
    ctx: click.Context, recount: bool, client: str | None, as_json: bool, database: Database
) -> None:
    """Account for every request of every client: how many were served, and what is missing.

    Exits 1 if a request is missing or repeated, or was given up by its handler.

    The audit reads one snapshot. A request that a worker holds at that moment counts as missing;
    run the audit again. With more than a hundred clients, only those with a problem are shown;
    --json streams all of them.

    The workers count as they serve, so an audit is quick however many rows there are. Only
    --recount notices rows that were removed or restored by hand; it may take minutes. Rows that
    'worker prune' removed count as served.
    """
    with connection_to(database, "worker audit") as connection, translating(database):
        if recount:
            count_again(connection, progress=progress("counting clients:"))
            while move_seal(connection, rows=20 * SWEPT):
                pass
        audit = Audit(
            connection, every=as_json, client=client, progress=progress("auditing clients:")
        )
        if as_json:
            _stream(audit)
        else:
            shown = _some(audit)
            if audit.totals.clients <= SHOWN:
                audit = Audit(connection, client=client)
                shown = _some(audit)
            _print(shown, audit.totals)
    if not audit.totals.holds or audit.totals.given_up:
        ctx.exit(ExitCode.FAILED)


def _stream(audit: Audit) -> None:
    """Write one JSON object on one line, without ever holding all of it in memory."""
    before = '{"clients": ['
    for account in audit.accounts():
        click.echo(f"{before}{json.dumps(dataclasses.asdict(account))}", nl=False)
        before = ", "
    if before != ", ":
        click.echo(before, nl=False)
    totals = dataclasses.asdict(audit.totals)
    totals["served_by"] = dict(sorted(audit.totals.served_by.items()))
    totals["count"] = totals.pop("clients")
    rest = json.dumps({"holds": audit.totals.holds, **totals})
    click.echo(f"], {rest[1:]}")


def _some(audit: Audit) -> list[Account]:
    """Read all accounts, so that the totals are complete, and return the first few."""
    shown: list[Account] = []
    for account in audit.accounts():
        if len(shown) < SHOWN:
            shown.append(account)
    return shown


def _print(shown: list[Account], totals: Totals) -> None:
    head = ["client", "served", "highest", "missing", "failed", "repeated", "resume at"]
    lines: list[list[object]] = [
        [a.client, a.served, a.highest, a.missing, a.failed, a.repeated, a.resume_at] for a in shown
    ]
    print_table(head, lines)
    for account in shown:
        if account.gaps:
            gaps = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in account.gaps)
            click.echo(f"missing of {account.client}: {gaps}")
        if account.removed:
            click.echo(f"served, and removed, of {account.client}: {account.removed:,}")
    if totals.clients > len(shown):
        click.echo(
            f"clients: {totals.clients:,}; served {totals.served:,} (removed since:"
            f" {totals.removed:,}), missing {totals.missing:,}, failed {totals.failed:,},"
            f" repeated {totals.repeated:,}"
        )
    if totals.given_up:
        click.echo(f"given up: {totals.given_up:,}; see 'worker failed list'")
    for replica, count in sorted(totals.served_by.items()):
        click.echo(f"served by {replica}: {count:,}")
