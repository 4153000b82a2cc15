"""The command ``worker``."""

from __future__ import annotations

import click

from turnwise import __version__, cli

COMMANDS = {
    "run": "Serve requests in turn until SIGTERM or Ctrl-C.",
    "migrate": "Create or upgrade the tables.",
    "audit": "Account for every request of every client.",
    "prune": "Remove old rows; repeats of them are still recognised.",
    "dead": "List, replay or drop dead letters.",
    "failed": "List, retry or drop requests that a handler failed to serve.",
}


@click.group(cls=cli.LazyGroup, package="worker.commands", summaries=COMMANDS)
@click.version_option(__version__, prog_name="worker")
def main() -> None:
    """Serve requests in turn, and account for what was served.

    \b
    Exit codes: 0 done, 1 the audit found a gap or a failure, 2 bad usage,
    69 a server is unreachable, 70 a handler exceeded its time limit, 77 login refused,
    78 wrong setup (virtual host, database, queue).
    """
