"""``lab demo``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from lab.commands.shared import containers_option, folder_option, plainly, stoppable, tell_servers
from lab.demo import COUNT, Demo
from lab.harness.process import Process
from lab.harness.servers import Servers
from lab.house import figures_of, operators_url, page_url, start_page
from turnwise import cli
from turnwise.errors import ExitCode


def _linger(url: str) -> None:
    """Keep the page up until the user at the terminal presses Enter."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        click.echo(f"\nThe page, {url}, stays up until you press Enter. ", nl=False)
        sys.stdin.readline()
    click.echo("\nTo try it yourself:  . .venv/bin/activate; lab up")


@click.command("demo", cls=cli.Command)
@containers_option
@folder_option
@click.pass_context
def command(ctx: click.Context, containers: bool, folder: Path) -> None:
    """Watch two replicas take turns while the broker restarts and one of them is killed.

    It uses servers of its own and leaves nothing behind. Exits 0 only if the audit holds.
    """
    base = folder / f"demo-{os.getpid()}"
    stoppable()
    page: Process | None = None
    with plainly():
        servers = Servers(base, folder / "packages", in_containers=containers)
        try:
            servers.require()
            click.echo(f"page           {page_url(base)}")
            click.echo(f"  as operator  {operators_url(base)}")
            page = start_page(servers, base, attached=True)
            click.echo(
                f"{COUNT} requests, one a second, and two replicas. On the way, a replica is "
                "killed and RabbitMQ is restarted."
            )
            click.echo("Starting RabbitMQ and the database ...")
            servers.start()
            tell_servers(figures_of(servers), servers.rabbitmq.password)
            click.echo()
            good = Demo(servers, base).run()
            _linger(page_url(base))
        except KeyboardInterrupt:
            click.echo("\nstopped; nothing is left running", err=True)
            ctx.exit(128 + signal.SIGINT)
        finally:
            if page is not None:
                page.kill()
            servers.remove()
    ctx.exit(ExitCode.OK if good else ExitCode.FAILED)
