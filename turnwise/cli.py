"""Shared by all commands: options with environment variables, and the handling of errors."""

from __future__ import annotations

import functools
import importlib
import ipaddress
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from turnwise import log, streams
from turnwise.errors import ExitCode, TurnwiseError
from turnwise.limits import MAX_QUEUE_LENGTH

# Neither pika nor PyMySQL is imported here: --help must be quick.

_LAST_PORT = 65535
_LONGEST_SECRET = 64 * 1024
"""Bytes."""

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


class SecretOption(click.Option):
    """An option whose environment variable NAME may be given as a file too: NAME_FILE."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Read NAME, or the file that NAME_FILE names."""
        value = super().resolve_envvar_value(ctx)
        if value is not None or not isinstance(self.envvar, str):
            return value
        path = os.environ.get(f"{self.envvar}_FILE")
        if not path:
            return None
        try:
            # Bounded: a path mistyped to a device would never end.
            with Path(path).open("rb") as file:
                secret = file.read(_LONGEST_SECRET + 1)
            if len(secret) > _LONGEST_SECRET:
                raise click.UsageError(
                    f"{self.envvar}_FILE={path} has more than {_LONGEST_SECRET // 1024} KiB: it "
                    "does not hold a URL or a token",
                    ctx,
                )
            return secret.decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"cannot read {self.envvar}_FILE: {error}", ctx) from None


class Duration(click.ParamType[float]):
    """A length of time: ``1s``, ``50ms``, ``2m``, ``30d``, ``0``; a bare number means seconds."""

    name = "duration"
    _units = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # noqa: RUF012

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d|)", str(value).strip())
        if not match:
            self.fail(f"{value!r} is not a duration; write 1s, 50ms, 2m, 12h, 30d or 0", param, ctx)
        return float(match[1]) * self._units[match[2]]


class Size(click.ParamType[int]):
    """A number of bytes: ``64M``, ``1G``; a unit is 1,024 of the one before it."""

    name = "size"
    _units = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}  # noqa: RUF012

    def __init__(self, minimum: int) -> None:
        self._minimum = minimum

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        """Return bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,9})([KMGT]?)", str(value).strip().upper())
        if not match:
            self.fail(f"{value!r} is not a size; write 64M or 1G", param, ctx)
        size = int(match[1]) * self._units[match[2]]
        if size < self._minimum:
            self.fail(f"{value!r} is less than {self._minimum // 1024**2}M", param, ctx)
        return size


class Address(click.ParamType[tuple[str, int]]):
    """Where to listen: ``PORT`` or ``HOST:PORT``; without a host, on loopback."""

    name = "address"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, int]:
        """Return host and port."""
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not port.isdecimal() or int(port) > _LAST_PORT:
            self.fail(f"{value!r} is not an address; write 8080 or 0.0.0.0:8080", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Name(click.ParamType[str]):
    """A name of at most ``longest`` characters, which needs no quoting anywhere."""

    name = "name"

    def __init__(self, longest: int) -> None:
        self._longest = longest

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Return the name."""
        if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{self._longest}}}", str(value), re.ASCII):
            self.fail(f"must be 1 to {self._longest} characters of A-Z a-z 0-9 . _ -", param, ctx)
        return str(value)


class Url(click.ParamType[Any]):
    """A URL that ``parse`` reads. Its errors never repeat a password."""

    name = "url"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return what ``parse`` returns; report an invalid URL without repeating it."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(f"it {error}", param, ctx)

    def parse(self, value: str) -> Any:
        """Return what ``parse`` returns."""
        raise NotImplementedError


def queue_option(command: F) -> F:
    """Add ``--queue``."""
    return option(
        "--queue",
        envvar="TURNWISE_QUEUE",
        type=Name(MAX_QUEUE_LENGTH),
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
        type=Address(),
        metavar="[HOST:]PORT",
        help="Serve /healthz, /readyz and /metrics (for Prometheus) there, on loopback by default.",
    )


json_option = option(
    "--json", "as_json", is_flag=True, help="Write JSON for machines, not text for people."
)
