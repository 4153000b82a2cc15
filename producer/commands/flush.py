"""``producer flush``."""

from __future__ import annotations

from pathlib import Path

import click

from producer.commands.shared import exit_code, interruptible_loop, outbox_option
from producer.outbox import Outbox, read_status
from producer.report import Report
from producer.sender import Sender
from turnwise import cli
from turnwise.node import Node
from turnwise.options import amqp_option
from turnwise.topology import Topology


@click.command("flush", cls=cli.Command)
@outbox_option
@cli.queue_option
@cli.json_option
@amqp_option
@click.pass_context
def command(ctx: click.Context, path: Path, queue: str, as_json: bool, nodes: list[Node]) -> None:
    """Publish what is waiting in the outbox, then exit.

    If RabbitMQ is unreachable, it keeps trying until Ctrl-C. What is not published stays in the
    outbox.
    """
    read_status(path)  # raises if there is no outbox: flushing must not create one
    with interruptible_loop() as loop, Outbox(path) as outbox:
        report = Report(loop, outbox, as_json=as_json)
        try:
            Sender(loop, outbox, nodes, Topology(queue), report).run()
        finally:
            report.finish()
        ctx.exit(exit_code(outbox, report))
