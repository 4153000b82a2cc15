"""``producer status``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from producer.commands.shared import outbox_option
from producer.outbox import read_status
from turnwise import cli


@click.command("status", cls=cli.Command)
@outbox_option
@cli.json_option
def command(path: Path, as_json: bool) -> None:
    """Tell what is accepted, confirmed and waiting, also while the producer runs."""
    figures = read_status(path)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(figures)))
        return
    click.echo(f"client     {figures.client}")
    click.echo(f"accepted   {figures.accepted:,}")
    click.echo(f"confirmed  {figures.confirmed:,}")
    click.echo(f"waiting    {figures.waiting:,}")
