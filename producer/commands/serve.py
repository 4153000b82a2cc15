"""``producer serve``."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket

import click

from turnwise import cli, log, parameters
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.options import amqp_option
from turnwise.topology import Topology

DEFAULT_TIMEOUT = 10.0
"""Seconds."""


def _check_timeout(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not 0 < value <= 60:  # noqa: PLR2004 - load balancers give up then
        raise click.BadParameter("must be above 0 and at most 60s")
    return value


@click.command("serve", cls=cli.Command)
@cli.option(
    "--http",
    envvar="PRODUCER_HTTP",
    type=parameters.Address(),
    default="8000",
    show_default="127.0.0.1:8000",
    metavar="[HOST:]PORT",
    help="Where to listen. Anything but loopback needs a --token.",
)
@cli.option(
    "--token",
    cls=parameters.SecretOption,
    envvar="PRODUCER_TOKEN",
    help="The token that clients send as 'Authorization: Bearer'. PRODUCER_TOKEN_FILE names a "
    "file that holds it.",
)
@cli.option(
    "--timeout",
    envvar="PRODUCER_TIMEOUT",
    type=parameters.Duration(),
    callback=_check_timeout,
    default=DEFAULT_TIMEOUT,
    show_default="10s",
    help="The longest that a PUT may take, from its header to the answer.",
)
@cli.option(
    "--limit",
    envvar="PRODUCER_LIMIT",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="How many requests may wait for a confirm; further ones are answered 429.",
)
@cli.queue_option
@cli.log_options
@amqp_option
def command(
    http: tuple[str, int],
    token: str | None,
    timeout: float,
    limit: int,
    queue: str,
    log_level: str,
    log_format: str,
    nodes: list[Node],
) -> None:
    """Accept requests over HTTP; answer once RabbitMQ has confirmed them.

    \b
    curl -X PUT --data hello http://localhost:8000/requests/alice/1

    201 means that RabbitMQ has confirmed the request: it will be recorded. After any other answer,
    or none, send the same request again, to this instance or another one: it is recorded only once.
    The client numbers its requests 1, 2, 3 ... and keeps each one until its 201; this server keeps
    nothing.

    It also serves /healthz, /readyz and /metrics (for Prometheus), which need no token. On SIGTERM
    or Ctrl-C it answers the requests in progress and exits 0.
    """
    if not token and not parameters.is_loopback(http[0]):
        raise click.UsageError(f"{http[0]} is not loopback: give a --token (PRODUCER_TOKEN)")
    door = cli.import_extra("producer.door.door", "http")
    log.configure(log_level, log_format)
    # A line for each start, each stop and each client that speaks no HTTP.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    with contextlib.closing(Loop()) as loop, loop.signals(signal.SIGINT, signal.SIGTERM):
        door.Door(
            loop,
            nodes,
            Topology(queue),
            name=socket.gethostname(),
            address=http,
            token=token or None,
            limit=limit,
            timeout=timeout,
        ).run()
