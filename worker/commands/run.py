"""``worker run``."""

from __future__ import annotations

import contextlib
import re
import signal
import socket

import click

from turnwise import cli, log
from turnwise.database import Database
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.options import amqp_option, mysql_option
from turnwise.topology import Topology
from worker.replica import Replica
from worker.store import Store


def _check_name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", value, re.ASCII):
        raise click.BadParameter("must be 1 to 255 characters of A-Z a-z 0-9 . _ -")
    return value


@click.command("run", cls=cli.Command)
@cli.option(
    "--name",
    envvar="WORKER_NAME",
    default=socket.gethostname,
    show_default="host name",
    callback=_check_name,
    help="The replica's name: consumer tag, served_by, logs. On Kubernetes, the pod's.",
)
@cli.option(
    "--prefetch",
    envvar="WORKER_PREFETCH",
    type=click.IntRange(1, 65535),
    default=1,
    show_default=True,
    help="How many requests it may have in hand. 1: strict turns. More: drains a backlog faster, "
    "with one commit for all that has arrived.",
)
@cli.http_option("WORKER_HTTP")
@cli.queue_option
@cli.log_options
@amqp_option
@mysql_option
def command(
    name: str,
    prefetch: int,
    http: tuple[str, int] | None,
    queue: str,
    log_level: str,
    log_format: str,
    nodes: list[Node],
    database: Database,
) -> None:
    """Serve until SIGTERM or Ctrl-C; finish what is in hand, and exit 0.

    Waits for servers that are away. A second signal ends it at once, which loses nothing either.
    """
    log.configure(log_level, log_format)
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(contextlib.closing(Loop()))
        stack.enter_context(loop.signals(signal.SIGINT, signal.SIGTERM))
        replica = Replica(loop, nodes, Topology(queue), Store(database, name), name, prefetch)
        if http:
            metrics = cli.import_extra("worker.metrics", "metrics")
            server = cli.import_extra("turnwise.status_server", "metrics")
            stack.enter_context(server.StatusServer(loop, http, metrics.pages(replica.vitals)))
        replica.run()
