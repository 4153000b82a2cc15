"""The command ``producer``."""

from __future__ import annotations

import click

from turnwise import __version__, cli

COMMANDS = {
    "send": "Send numbered requests, one per quantum or line.",
    "serve": "Take requests by HTTP; answer when RabbitMQ has confirmed them.",
    "flush": "Publish what waits in the outbox, then exit.",
    "relay": "Publish what applications leave in the table outbox.",
    "status": "Report what is accepted, confirmed and waiting.",
}


@click.group(cls=cli.LazyGroup, package="producer.commands", summaries=COMMANDS)
@click.version_option(__version__, prog_name="producer")
def main() -> None:
    """Send numbered requests through a durable outbox to RabbitMQ.

    A request is accepted when it is in the outbox, on disk. From then on it is delivered, whatever
    dies: run the same command again, or 'producer flush', and sending goes on where it stopped.

    \b
    Exit codes: 0 done, 2 bad usage, 74 the outbox cannot be used (not accepted),
    75 stopped while accepted requests wait, 77 login refused, 78 wrong set-up.
    """
