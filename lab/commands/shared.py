"""Shared by several commands of ``lab``."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from lab.harness.errors import LabError
from lab.harness.servers import DEFAULT_FOLDER, Servers
from lab.harness.trio import Trio
from lab.house import House
from turnwise import cli

DOWN = "is down; 'lab up' starts it"

folder_option = cli.option(
    "--folder",
    envvar="LAB_FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="The folder that holds all of the lab: programs, data and logs.",
)
containers_option = cli.option(
    "--containers",
    envvar="LAB_CONTAINERS",
    is_flag=True,
    help="Run the servers in Docker containers, of the newest releases.",
)
nodes_option = cli.option(
    "--nodes",
    envvar="LAB_NODES",
    type=click.Choice(["1", "3"]),
    default="1",
    show_default=True,
    help="How many nodes of RabbitMQ, and of the database (Galera), to run.",
)


def stoppable() -> None:
    """Make SIGTERM end the command as Ctrl-C does, so that everything is stopped on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Report an error of a disk or a folder in one line."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise LabError(f"{where}{error.strerror or error}") from error


def tell_servers(figures: Mapping[str, Any], password: str) -> None:
    """Print the addresses of the servers."""
    rabbitmq, database = figures["rabbitmq"], figures["database"]
    click.echo(f"RabbitMQ       {rabbitmq or DOWN}")
    click.echo(f"database       {database or DOWN}")
    if rabbitmq:
        click.echo(f"management UI  {figures['management_ui']}  user lab, password {password}")


def tell(house: House, servers: Servers | Trio) -> None:
    """Print everything that is up, and how to use it."""
    figures = house.figures(servers)
    click.echo(f"page           {figures['page'] or DOWN}")
    if figures["page"]:
        click.echo(f"  as operator  {figures['page_as_operator']}")
    tell_servers(figures, servers.rabbitmq.password)
    click.echo(
        f"workers        {', '.join(figures['workers']) or 'none'}  (logs: {house.base}/*.log)"
    )
    for name, messages in (figures["queues"] or {}).items():
        click.echo(f"queue          {name}: {messages:,} messages")
    for warning in figures["warnings"]:
        click.echo(f"warning        {warning}")
    if figures["served"] is not None:
        click.echo(f"served         {figures['served']:,}")
    click.echo('your shell     eval "$(lab env)"; producer send hello')
