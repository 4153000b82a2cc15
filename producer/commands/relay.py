"""``producer relay``."""

from __future__ import annotations

import contextlib
import re
import signal
import socket

import click

from producer.client_name import check_base
from producer.relay.ledger import Ledger
from producer.relay.relay import STOP_GRACE, Relay
from turnwise import cli, log
from turnwise.database import Database
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.options import amqp_option, mysql_option


def _check_name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", value, re.ASCII):
        raise click.BadParameter("must be 1 to 255 characters of A-Z a-z 0-9 . _ -")
    return value


@click.command("relay", cls=cli.Command)
@cli.option(
    "--name",
    envvar="RELAY_NAME",
    default=socket.gethostname,
    show_default="host name",
    callback=_check_name,
    help="The relay's name in logs, in the table outbox_relay, and as a connection.",
)
@cli.option(
    "--client",
    envvar="RELAY_CLIENT",
    default="outbox",
    show_default=True,
    callback=check_base,
    metavar="NAME",
    help="What to name clients after, one for each queue, when its first request comes; a suffix "
    "makes each unique. They are kept in the table outbox_clients.",
)
@cli.http_option("RELAY_HTTP")
@cli.log_options
@amqp_option
@mysql_option
def command(
    name: str,
    client: str,
    http: tuple[str, int] | None,
    log_level: str,
    log_format: str,
    nodes: list[Node],
    database: Database,
) -> None:
    """Publish what applications leave in the table outbox, until SIGTERM or Ctrl-C.

    An application adds rows in its own transactions, with turnwise.outbox.send or by SQL. What is
    committed gets a number and is published to the row's queue; the row is deleted once RabbitMQ
    has confirmed it.

    Start as many as you like: one works, the others stand by and take over within seconds.
    Waits for servers that are away. 'worker migrate' makes the tables.
    """
    log.configure(log_level, log_format)
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(contextlib.closing(Loop()))
        stack.enter_context(loop.signals(signal.SIGINT, signal.SIGTERM, grace=STOP_GRACE))
        relay = Relay(loop, nodes, Ledger(database, name, client))
        if http:
            metrics = cli.import_extra("producer.relay.metrics", "metrics")
            server = cli.import_extra("turnwise.status_server", "metrics")
            figures = stack.enter_context(metrics.Figures(database, name))
            pages = metrics.pages(relay.vitals, figures)
            stack.enter_context(server.StatusServer(loop, http, pages))
        relay.run()
