"""``lab status``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lab.commands.shared import folder_option, tell
from lab.house import House
from turnwise import cli
from turnwise.errors import ExitCode


@click.command("status", cls=cli.Command)
@cli.json_option
@folder_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, folder: Path) -> None:
    """Show what is running, waiting and served.

    Exits 1 if a server is down.
    """
    house = House(folder)
    servers = house.servers() if house.there else None
    figures = house.figures(servers) if servers else {"running": False}
    if as_json:
        click.echo(json.dumps(figures))
    elif servers and any(figures[part] for part in ("rabbitmq", "database", "workers", "page")):
        tell(house, servers)
    else:
        click.echo("nothing is up; see 'lab up'")
    ctx.exit(ExitCode.OK if figures["running"] else ExitCode.FAILED)
