"""The command ``producer``."""

from __future__ import annotations

import click

from turnwise import __version__, cli

COMMANDS = {
    "send": "Send numbered requests: one per quantum, or one per line of input.",
    "serve": "Accept requests over HTTP; answer once RabbitMQ has confirmed them.",
    "flush": "Publish what is waiting in the outbox, then exit.",
    "relay": "Publish what applications commit to the table 'outbox'.",
    "status": "Show how many requests are accepted, confirmed and waiting.",
}


@click.group(cls=cli.LazyGroup, package="producer.commands", summaries=COMMANDS)
@click.version_option(__version__, prog_name="producer")
def main() -> None:
    """Send numbered requests through a durable outbox to RabbitMQ.

    A request is accepted once it is in the outbox, on disk. From then on it will be delivered,
    whatever fails: run the same command again, or 'producer flush', and sending resumes where it
    stopped.

    \b
    Exit codes: 0 done, 2 bad usage, 69 a server is unreachable,
    74 the outbox cannot be used (nothing was accepted),
    75 stopped while accepted requests are waiting, 77 login refused, 78 wrong setup.
    """
