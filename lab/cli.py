"""The command ``lab``."""

from __future__ import annotations

import click

from turnwise import __version__, cli

COMMANDS = {
    "up": "Start the servers, workers and the page, and leave them running.",
    "down": "Stop all of them, and keep their data.",
    "status": "Show what is running, waiting and served.",
    "env": 'Print settings for your shell:  eval "$(lab env)".',
    "demo": "Watch two replicas take turns while the broker restarts and one of them is killed.",
    "trial": "Inject faults of all kinds at random times, then account for every request.",
    "bench": "Benchmark it against textbook loops.",
}


@click.group(cls=cli.LazyGroup, package="lab.commands", summaries=COMMANDS)
@click.version_option(__version__, prog_name="lab")
def main() -> None:
    """Run a private RabbitMQ and MariaDB, on loopback, with generated passwords.

    The servers' programs are those of this machine, or are unpacked from its distribution's
    packages into the lab's folder. No system service is installed, started or used.
    """
