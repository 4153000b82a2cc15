"""The command ``producer``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnwise import __version__, cli
from turnwise.errors import ExitCode

if TYPE_CHECKING:
    from turnwise.loop import Loop
    from turnwise.node import Node


def _state_folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "turnwise"


outbox_option = cli.option(
    "--outbox",
    "path",
    envvar="PRODUCER_OUTBOX",
    type=click.Path(dir_okay=False, path_type=Path),
    default=lambda: _state_folder() / "outbox.db",
    show_default="~/.local/state/turnwise/outbox.db",
    help="The file that keeps requests until RabbitMQ has confirmed them.",
)


def _check_client(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    from producer.outbox import valid_base  # noqa: PLC0415

    if value is not None and not valid_base(value):
        raise click.BadParameter("must be 1 to 57 characters of A-Z a-z 0-9 . _ -")
    return value


@click.group(cls=cli.Group)
@click.version_option(__version__, prog_name="producer")
def main() -> None:
    """Send numbered requests through a durable outbox to RabbitMQ.

    A request is accepted when it is in the outbox, on disk. From then on it is delivered, whatever
    dies: run the same command again, or 'producer flush', and sending goes on where it stopped.

    \b
    Exit codes: 0 done, 2 bad usage, 74 the outbox cannot be used (not accepted),
    75 stopped while accepted requests wait, 77 login refused, 78 wrong set-up.
    """


@main.command()
@click.argument("message", required=False)
@cli.option(
    "--count",
    envvar="PRODUCER_COUNT",
    type=click.IntRange(min=1),
    help="How many requests to send.  [default: until Ctrl-C]",
)
@cli.option(
    "--quantum",
    envvar="PRODUCER_QUANTUM",
    type=cli.Duration(),
    default="1s",
    show_default=True,
    help="The time from one request to the next (1s, 50ms); 0: as fast as it goes.",
)
@click.option("--stdin", is_flag=True, help="Send each line of standard input, as it comes.")
@cli.option(
    "--client",
    envvar="PRODUCER_CLIENT",
    callback=_check_client,
    metavar="NAME",
    help="What to name the client after, when the outbox is made; a suffix makes it unique.  "
    "[default: host name]",
)
@outbox_option
@cli.http_option("PRODUCER_HTTP")
@cli.queue_option
@cli.json_option
@cli.amqp_option
@click.pass_context
def send(
    ctx: click.Context,
    message: str | None,
    count: int | None,
    quantum: float,
    stdin: bool,
    client: str | None,
    path: Path,
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

    Ctrl-C publishes what it can within five seconds and says what still waits.
    """
    if stdin == (message is not None):
        raise click.UsageError("give either MESSAGE or --stdin")
    paced = {"count", "quantum"} & {
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    if stdin and paced:
        raise click.UsageError(f"--stdin sends lines as they come; leave --{min(paced)} out")

    import time  # noqa: PLC0415

    from producer.outbox import Outbox  # noqa: PLC0415
    from producer.pace import Pace  # noqa: PLC0415
    from producer.report import Report  # noqa: PLC0415
    from producer.sender import Sender  # noqa: PLC0415
    from producer.source import Clock, Lines, Source  # noqa: PLC0415
    from turnwise.topology import Topology  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(_loop())
        outbox = stack.enter_context(Outbox(path, client))
        if http:
            from producer.metrics import pages  # noqa: PLC0415
            from turnwise.status_server import StatusServer  # noqa: PLC0415

            stack.enter_context(StatusServer(loop, http, pages(outbox)))
        report = Report(loop, outbox, as_json=as_json)
        source: Source
        if message is None:
            source = Lines(loop, outbox, sys.stdin.fileno())
        else:
            source = Clock(loop, outbox, message, Pace(quantum, count, time.monotonic()))
        try:
            Sender(loop, outbox, nodes, Topology(queue), report, source).run()
        finally:
            report.finish()
        if source.failure:
            raise source.failure
        if outbox.waiting:
            ctx.exit(ExitCode.WAITING)


@main.command()
@outbox_option
@cli.queue_option
@cli.json_option
@cli.amqp_option
@click.pass_context
def flush(ctx: click.Context, path: Path, queue: str, as_json: bool, nodes: list[Node]) -> None:
    """Publish what waits in the outbox, then exit.

    Waits for RabbitMQ if it is away; Ctrl-C ends that, and what waits goes on waiting.
    """
    from producer.outbox import Outbox, read_status  # noqa: PLC0415
    from producer.report import Report  # noqa: PLC0415
    from producer.sender import Sender  # noqa: PLC0415
    from turnwise.topology import Topology  # noqa: PLC0415

    read_status(path)  # flushing makes no outbox
    with _loop() as loop, Outbox(path) as outbox:
        report = Report(loop, outbox, as_json=as_json)
        try:
            Sender(loop, outbox, nodes, Topology(queue), report).run()
        finally:
            report.finish()
        if outbox.waiting:
            ctx.exit(ExitCode.WAITING)


@main.command()
@outbox_option
@cli.json_option
def status(path: Path, as_json: bool) -> None:
    """Tell what is accepted, confirmed and waiting, also while the producer runs."""
    from producer.outbox import read_status  # noqa: PLC0415

    figures = read_status(path)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(figures)))
        return
    click.echo(f"client     {figures.client}")
    click.echo(f"accepted   {figures.accepted:,}")
    click.echo(f"confirmed  {figures.confirmed:,}")
    click.echo(f"waiting    {figures.waiting:,}")


@contextlib.contextmanager
def _loop() -> Iterator[Loop]:
    from turnwise import log  # noqa: PLC0415
    from turnwise.loop import Loop  # noqa: PLC0415

    log.configure("warning", "auto")
    with contextlib.closing(Loop()) as loop, loop.signals(signal.SIGINT, signal.SIGTERM):
        yield loop
