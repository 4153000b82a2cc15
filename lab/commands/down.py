"""``lab down``."""

from __future__ import annotations

from pathlib import Path

import click

from lab.commands.shared import folder_option, plainly
from lab.house import House
from turnwise import cli


@click.command("down", cls=cli.Command)
@click.option("--purge", is_flag=True, help="Remove the data too: queues, tables and passwords.")
@folder_option
def command(purge: bool, folder: Path) -> None:
    """Stop the workers, the page and the servers, and keep their data."""
    house = House(folder)
    if not house.there:
        click.echo("nothing is up")
        return
    with plainly():
        if purge:
            house.purge()
        else:
            house.stop()
    click.echo("stopped" + (", and removed" if purge else "; 'lab up' resumes where it stopped"))
