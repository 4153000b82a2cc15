"""Code shared by several commands of ``producer``."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import click

from producer.outbox import Outbox
from producer.report import STOP_GRACE, Report
from turnwise import cli, log
from turnwise.errors import ExitCode
from turnwise.loop import Loop


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


@contextlib.contextmanager
def interruptible_loop() -> Iterator[Loop]:
    """Yield a loop that SIGINT and SIGTERM ask to stop."""
    log.configure("warning", "auto")
    stop = (signal.SIGINT, signal.SIGTERM)
    with contextlib.closing(Loop()) as loop, loop.signals(*stop, grace=STOP_GRACE):
        yield loop


def given(ctx: click.Context) -> set[str]:
    """Return the names of the parameters that stand on the command line."""
    return {
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }


def exit_code(outbox: Outbox, report: Report) -> ExitCode:
    """Return the exit code of a command that has published what it could."""
    if outbox.waiting:
        return ExitCode.WAITING
    return report.lost.exit_code if report.lost else ExitCode.OK
