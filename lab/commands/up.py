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
    help="How many workers to run; run 'lab up' again with another number to scale them.",
)
@nodes_option
@containers_option
@folder_option
@click.pass_context
def command(ctx: click.Context, workers: int, nodes: str, containers: bool, folder: Path) -> None:
    """Start the servers, workers and the page, and leave them running.

    If Ctrl-C or an error interrupts it, it stops again what it has started.
    """
    stoppable()
    if containers and nodes != "1":
        raise click.UsageError("--nodes 3 runs processes: leave out --containers")
    with plainly():
        house = House(folder)
        servers = house.servers(containers=containers, nodes=int(nodes))
        try:
            house.start(servers, workers, click.echo)
        except KeyboardInterrupt:
            click.echo("\ninterrupted; stopped again what it had started", err=True)
            ctx.exit(128 + signal.SIGINT)
        tell(house, servers)
