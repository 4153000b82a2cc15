"""``producer relay``."""

from __future__ import annotations

import contextlib
import signal
import socket

import click

from producer.client_name import MAX_BASE_LENGTH
from producer.relay.ledger import Ledger
from producer.relay.relay import STOP_GRACE, Relay
from turnwise import cli, log, parameters
from turnwise.database import Database
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.options import amqp_option, mysql_option


@click.command("relay", cls=cli.Command)
@cli.option(
    "--name",
    envvar="RELAY_NAME",
    type=parameters.Name(255),
    default=socket.gethostname,
    show_default="host name",
    help="The relay's name in logs, in the table outbox_relay and on its connection.",
)
@cli.option(
    "--client",
    envvar="RELAY_CLIENT",
    default="outbox",
    show_default=True,
    type=parameters.Name(MAX_BASE_LENGTH),
    help="Each queue gets a client of this name when its first request is numbered; a suffix is "
    "added that makes it unique. The table outbox_clients holds them.",
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
    """Publish what applications commit to the table 'outbox', until SIGTERM or Ctrl-C.

    An application inserts rows in its own transactions, with turnwise.outbox.send or in SQL. Each
    committed row gets a number and is published to its queue, and is deleted once RabbitMQ has
    confirmed it.

    Run as many relays as you like: one is active, the others stand by and take over within seconds.
    A relay waits for servers that are unreachable. 'worker migrate' creates the tables.
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
