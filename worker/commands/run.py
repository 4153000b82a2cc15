"""``worker run``."""

from __future__ import annotations

import contextlib
import functools
import signal
import socket
import sys

import click

from turnwise import cli, log, parameters
from turnwise.database import Database
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.options import amqp_option, mysql_option
from turnwise.topology import Topology
from worker.display import Display
from worker.handler import Terms
from worker.handler_call import leave_threads
from worker.handler_loading import load
from worker.handling import Handling
from worker.replica import HANDLER_ENDING, Replica
from worker.store import Store

MAX_PREFETCH = 1000
"""RabbitMQ limits the prefetch in messages, not in bytes. This many of the largest, 100 MiB in all,
fit into the memory that k8s/ gives a worker. (Not reading the socket is no alternative: after 30 s
RabbitMQ closes a connection that reads nothing, and counts it against the delivery limit.)"""


LONGEST_TIME_LIMIT = 25 * 60.0
"""Seconds. RabbitMQ considers a consumer dead that has not acked for 30 minutes."""


def _check_time_limit(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not 1 <= value <= LONGEST_TIME_LIMIT:
        raise click.BadParameter("must be between 1s and 25m")
    return value


def _check_grace(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if value <= HANDLER_ENDING:
        raise click.BadParameter(
            f"must be more than {HANDLER_ENDING:.0f}s, which stopping may take"
        )
    return value


@click.command("run", cls=cli.Command)
@cli.option(
    "--name",
    envvar="WORKER_NAME",
    type=parameters.Name(255),
    default=socket.gethostname,
    show_default="host name",
    help="The replica's name: consumer tag, served_by, logs. On Kubernetes, the pod's.",
)
@cli.option(
    "--prefetch",
    envvar="WORKER_PREFETCH",
    type=click.IntRange(1, MAX_PREFETCH),
    default=1,
    show_default=True,
    help="How many unacked requests the worker may hold. 1: strict turns. More drains a backlog "
    "faster, with one commit for all that has arrived, and takes up to 100 KiB of memory each.",
)
@cli.option(
    "--handler",
    envvar="WORKER_HANDLER",
    metavar="MODULE:FUNCTION",
    help="Your function serve(request, db), which does its work in the request's own transaction. "
    "Without it, serving a request means recording it.",
)
@cli.option(
    "--time-limit",
    envvar="WORKER_TIME_LIMIT",
    type=parameters.Duration(),
    default="5m",
    show_default=True,
    callback=_check_time_limit,
    help="How long the handler may take for one request: 1s to 25m. After 30m without an ack, "
    "RabbitMQ delivers the request to another worker.",
)
@cli.option(
    "--max-attempts",
    envvar="WORKER_MAX_ATTEMPTS",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="A request is given up after this many failed attempts; 'worker failed' lists it.",
)
@cli.option(
    "--grace",
    envvar="WORKER_GRACE",
    type=parameters.Duration(),
    default="30s",
    show_default=True,
    callback=_check_grace,
    help="The time between SIGTERM and SIGKILL: on Kubernetes, the pod's "
    f"terminationGracePeriodSeconds. A handler may run until {HANDLER_ENDING:.0f} s before that.",
)
@cli.http_option("WORKER_HTTP")
@cli.queue_option
@cli.log_options
@amqp_option
@mysql_option
def command(
    name: str,
    prefetch: int,
    handler: str | None,
    time_limit: float,
    max_attempts: int,
    grace: float,
    http: tuple[str, int] | None,
    queue: str,
    log_level: str,
    log_format: str,
    nodes: list[Node],
    database: Database,
) -> None:
    """Serve requests in turn until SIGTERM or Ctrl-C.

    On a signal the worker finishes the requests it holds and exits 0. A second signal ends it at
    once, which loses nothing either. It waits for servers that are unreachable. On a terminal it
    shows the requests it serves.
    """
    log.configure(log_level, log_format)
    serve = load(handler) if handler else None
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(contextlib.closing(Loop()))
        stack.enter_context(loop.signals(signal.SIGINT, signal.SIGTERM))
        handling = None
        if serve:
            terms = Terms(time_limit, max_attempts)
            handling = Handling(loop, database, name, serve, terms, grace - HANDLER_ENDING)
        replica = Replica(
            loop, nodes, Topology(queue), Store(database, name), name, prefetch, handling
        )
        if http:
            metrics = cli.import_extra("worker.metrics", "metrics")
            server = cli.import_extra("turnwise.status_server", "metrics")
            stack.enter_context(server.StatusServer(loop, http, metrics.pages(replica.vitals)))
        # At another log level the display would repeat the log, or was not asked for.
        if log_level == "info" and log_format != "json" and sys.stderr.isatty():
            write = functools.partial(click.echo, err=True)
            replica.vitals.on_served = Display(loop, write).served
        replica.run()
    if serve:
        leave_threads()
