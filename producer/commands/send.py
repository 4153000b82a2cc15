"""``producer send``."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import click

from producer.client_name import MAX_BASE_LENGTH
from producer.commands.shared import exit_code, given, interruptible_loop, outbox_option
from producer.outbox import LIMIT, Outbox
from producer.pace import Pace
from producer.report import Report
from producer.sender import Sender
from producer.source import Clock, Lines, Source
from turnwise import cli, parameters, streams
from turnwise.node import Node
from turnwise.options import amqp_option
from turnwise.topology import Topology


@click.command("send", cls=cli.Command)
@click.argument("message", required=False)
@cli.option(
    "--count",
    envvar="PRODUCER_COUNT",
    type=click.IntRange(min=1),
    help="How many requests to send.  [default: no limit]",
)
@cli.option(
    "--quantum",
    envvar="PRODUCER_QUANTUM",
    type=parameters.Duration(),
    default="1s",
    show_default=True,
    help="The time between two requests (1s, 50ms); 0 sends as fast as possible.",
)
@click.option("--stdin", is_flag=True, help="Send each line of standard input as it arrives.")
@cli.option(
    "--client",
    envvar="PRODUCER_CLIENT",
    type=parameters.Name(MAX_BASE_LENGTH),
    help="The client's name in a new outbox; a suffix is added that makes it unique.  "
    "[default: host name]",
)
@outbox_option
@cli.option(
    "--outbox-limit",
    "limit",
    envvar="PRODUCER_OUTBOX_LIMIT",
    type=parameters.Size(minimum=1024**2),
    default=LIMIT,
    show_default="1G",
    metavar="SIZE",
    help="The outbox accepts nothing more while it holds this much.",
)
@cli.http_option("PRODUCER_HTTP")
@cli.queue_option
@cli.json_option
@amqp_option
@click.pass_context
def command(
    ctx: click.Context,
    message: str | None,
    count: int | None,
    quantum: float,
    stdin: bool,
    client: str | None,
    path: Path,
    limit: int,
    http: tuple[str, int] | None,
    queue: str,
    as_json: bool,
    nodes: list[Node],
) -> None:
    """Send MESSAGE once per quantum, numbered 1, 2, 3 ... in this outbox.

    \b
    producer send hello                          one a second, until Ctrl-C
    producer send hello --count 100 --quantum 50ms
    seq 1000000 | producer send --stdin

    Ctrl-C publishes what it can within five seconds, and reports what is still waiting.

    While the outbox is full (--outbox-limit), --stdin stops reading, and quanta are skipped.
    """
    if stdin == (message is not None):
        raise click.UsageError("give either MESSAGE or --stdin")
    paced = {"count", "quantum"} & given(ctx)
    if stdin and paced:
        raise click.UsageError(f"--stdin sends lines as they arrive: leave out --{min(paced)}")

    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(interruptible_loop())
        outbox = stack.enter_context(Outbox(path, client, limit))
        if http:
            metrics = cli.import_extra("producer.metrics", "metrics")
            server = cli.import_extra("turnwise.status_server", "metrics")
            stack.enter_context(server.StatusServer(loop, http, metrics.pages(outbox)))
        report = Report(loop, outbox, as_json=as_json)
        source: Source
        if message is None:
            source = Lines(loop, outbox, streams.STDIN)
        else:
            source = Clock(loop, outbox, message, Pace(quantum, count, time.monotonic()))
        try:
            Sender(loop, outbox, nodes, Topology(queue), report, source).run()
        finally:
            report.finish()
        if source.failure:
            raise source.failure
        ctx.exit(exit_code(outbox, report))
