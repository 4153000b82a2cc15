"""Shared by all commands: options with environment variables, and the handling of errors."""

from __future__ import annotations

import functools
import importlib
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from turnwise import log, parameters, streams
from turnwise.errors import ExitCode, TurnwiseError
from turnwise.limits import MAX_QUEUE_LENGTH

# Neither pika nor PyMySQL is imported here: --help must be quick.

INTERRUPTED = 128 + signal.SIGINT
"""The exit code of a command that Ctrl-C interrupted, as shells report it."""

F = TypeVar("F", bound=Callable[..., Any])

option = functools.partial(click.option, show_envvar=True)
"""click.option, with its environment variable in --help."""


class Command(click.Command):
    """A command that reports Turnwise's own errors in one line, and exits with their code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(context_settings={"help_option_names": ["-h", "--help"]}, **settings)

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command, and end the process with its exit code."""
        streams.guard()
        if not streams.has_colour():
            settings["color"] = False
        try:
            return super().main(*args, **settings)
        except streams.OutputLost as error:
            if error.reader_gone:
                sys.exit(streams.BROKEN_PIPE)
            click.echo(f"{Path(sys.argv[0]).name}: {error}", err=True)
            sys.exit(error.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except streams.OutputLost:
            raise
        except TurnwiseError as error:
            _report(ctx.command_path, error)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(err=True)  # after the terminal's ^C
            ctx.exit(INTERRUPTED)

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first sentence in full: the list of commands wraps it."""
        return super().get_short_help_str(max(limit, 1000))


def _report(command: str, error: TurnwiseError) -> None:
    """Report the error that ended a command, as a log line if its logs are JSON."""
    if log.writes_json():
        event = {"command": command, "error": str(error), "exit_code": int(error.exit_code)}
        log.event(logging.getLogger(__name__), logging.ERROR, "command.failed", **event)
    else:
        click.echo(f"{command}: {error}", err=True)


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command


class LazyGroup(Group):
    """A group whose commands are modules of ``package``, each imported only when it is called.

    ``summaries`` maps a command's name to its line in the group's --help. The module PACKAGE.NAME
    holds a click command called ``command``.
    """

    def __init__(self, *, package: str, summaries: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings)
        self._package = package
        self._summaries = summaries

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the commands' names, in the order of the list in --help."""
        return list(self._summaries)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        if cmd_name not in self._summaries:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{cmd_name}").command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))


class MissingExtra(TurnwiseError):
    """A part of Turnwise is asked for that is not installed."""

    exit_code = ExitCode.CONFIG


def import_extra(module: str, extra: str) -> Any:
    """Import a module that needs ``pip install 'turnwise[EXTRA]'``.

    Raises MissingExtra if that is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"this needs the Python package {error.name!r}: pip install 'turnwise[{extra}]'"
        ) from None


def queue_option(command: F) -> F:
    """Add ``--queue``."""
    return option(
        "--queue",
        envvar="TURNWISE_QUEUE",
        type=parameters.Name(MAX_QUEUE_LENGTH),
        default="requests",
        show_default=True,
        help="The queue; its exchange has the same name, and its dead letters go to NAME.dead.",
    )(command)


def log_options(command: F) -> F:
    """Add ``--log-level`` and ``--log-format``."""
    level = option(
        "--log-level",
        envvar="LOG_LEVEL",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
        show_default=True,
        help="The least severe events to log; debug logs each request.",
    )
    style = option(
        "--log-format",
        envvar="LOG_FORMAT",
        type=click.Choice(["auto", "text", "json"], case_sensitive=False),
        default="auto",
        show_default=True,
        help="auto writes text to a terminal and JSON lines elsewhere.",
    )
    return level(style(command))


def http_option(envvar: str) -> Callable[[F], F]:
    """Add ``--http``; the command gets ``http``: host and port, or None."""
    return option(
        "--http",
        envvar=envvar,
        type=parameters.Address(),
        metavar="[HOST:]PORT",
        help="Serve /healthz, /readyz and /metrics (for Prometheus) there, on loopback by default.",
    )


json_option = option(
    "--json", "as_json", is_flag=True, help="Write JSON for machines, not text for people."
)
