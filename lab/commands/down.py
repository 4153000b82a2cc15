"""``lab down``."""

from __future__ import annotations

from pathlib import Path

import click

from lab.commands.shared import folder_option, plainly
from lab.house import House
from turnwise import cli


@click.command("down", cls=cli.Command)
@click.option("--purge", is_flag=True, help="Remove the data too: queues, tables, passwords.")
@folder_option
def command(purge: bool, folder: Path) -> None:
    """Stop the workers and the page, then the servers. Their data stay."""
    house = House(folder)
    if not house.there:
        click.echo("nothing is up")
        return
    with plainly():
        if purge:
            house.purge()
        else:
            house.stop()
    click.echo("down" + (", and removed" if purge else "; 'lab up' goes on where it stopped"))
