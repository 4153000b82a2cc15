"""``lab up``."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from lab.commands.shared import (
    containers_option,
    folder_option,
    nodes_option,
    plainly,
    stoppable,
    tell,
)
from lab.house import House
from turnwise import cli


@click.command("up", cls=cli.Command)
@cli.option(
    "--workers",
    envvar="LAB_WORKERS",
    type=click.IntRange(0, 100),
    default=2,
    show_default=True,
    help="How many workers; again with another number scales them.",
)
@nodes_option
@containers_option
@folder_option
@click.pass_context
def command(ctx: click.Context, workers: int, nodes: str, containers: bool, folder: Path) -> None:
    """Start the page, the servers and workers, and leave them running.

    What this starts is ended again if it is broken off: by Ctrl-C, or by an error.
    """
    stoppable()
    if containers and nodes != "1":
        raise click.UsageError("three nodes are run as processes, not as containers")
    with plainly():
        house = House(folder)
        servers = house.servers(containers=containers, nodes=int(nodes))
        try:
            house.start(servers, workers, click.echo)
        except KeyboardInterrupt:
            click.echo("\nstopped; what this had started is ended again", err=True)
            ctx.exit(128 + signal.SIGINT)
        tell(house, servers)
