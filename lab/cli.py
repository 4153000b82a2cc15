"""The command ``lab``."""

from __future__ import annotations

import click

from turnwise import __version__, cli

COMMANDS = {
    "up": "Start the page, the servers and workers, and leave them running.",
    "down": "Stop the workers and the page, then the servers. Their data stay.",
    "status": "Tell what runs, what waits, what was served. Exit 1 if a server is down.",
    "env": 'Print settings for your shell:  eval "$(lab env)".',
    "demo": "Watch two replicas take turns while the broker restarts and one of them is killed.",
    "trial": "Break everything at random instants, then account for every request.",
    "bench": "Measure how fast it is, beside the loops that tutorials write.",
}


@click.group(cls=cli.LazyGroup, package="lab.commands", summaries=COMMANDS)
@click.version_option(__version__, prog_name="lab")
def main() -> None:
    """Have RabbitMQ and MariaDB of your own: private, on loopback, with generated passwords.

    The programs come from this machine or from its distribution's packages, unpacked into the
    lab's folder. No system service is installed, started or used.
    """
