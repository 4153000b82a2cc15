"""``lab env``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from lab.commands.shared import folder_option
from lab.harness import commands
from lab.harness.errors import LabError
from lab.house import House, environment
from turnwise import cli


@click.command("env", cls=cli.Command)
@folder_option
def command(folder: Path) -> None:
    """Print settings for your shell:  eval "$(lab env)"."""
    house = House(folder)
    if not house.there:
        raise LabError("nothing is up; see 'lab up'")
    settings = environment(house.servers())
    # An outbox goes with the tables that hold its client's first requests: 'lab down --purge'
    # removes both.
    settings["PRODUCER_OUTBOX"] = str((house.base / "outbox.db").absolute())
    if str(commands.BIN) not in os.environ.get("PATH", "").split(":"):
        settings["PATH"] = f"{commands.BIN}:{os.environ.get('PATH', '')}"
    for name, value in settings.items():
        click.echo(f"export {name}={shlex.quote(value)}")
