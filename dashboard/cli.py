"""The command ``dashboard``."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from turnwise import __version__, cli
from turnwise.errors import ExitCode, TurnwiseError
from turnwise.options import mysql_option

if TYPE_CHECKING:
    from dashboard.management import Management
    from turnwise.database import Database

THREADS = 12
"""That answer. A page asks several times a second, and gets its answer from memory."""

CONNECTIONS = 1000
"""Open at the same time; a browser keeps one to six for each page."""


STOP_TIMEOUT = 1.0
"""Seconds for a watcher to end; one that hangs in a read ends with the process."""

logger = logging.getLogger(__name__)


class ServeError(TurnwiseError):
    """The page cannot be served."""

    exit_code = ExitCode.CONFIG


class _ManagementUrl(cli.Url):
    def parse(self, value: str) -> Management:
        from dashboard.management import parse_url  # noqa: PLC0415

        return parse_url(value)


class _Link(cli.Url):
    def parse(self, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must begin with http:// or https://")
        if parts.username:
            raise ValueError("must hold no login: everyone sees it")
        return value


@click.command(cls=cli.Command)
@click.version_option(__version__, prog_name="dashboard")
@cli.option(
    "--host",
    envvar="DASHBOARD_HOST",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. Anything but loopback needs a --token.",
)
@cli.option(
    "--port",
    envvar="DASHBOARD_PORT",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
)
@cli.option(
    "--token",
    cls=cli.SecretOption,
    envvar="DASHBOARD_TOKEN",
    help="What a browser is asked for, and an API client sends as 'Authorization: Bearer'. "
    "DASHBOARD_TOKEN_FILE names a file that holds it.",
)
@cli.option(
    "--management-url",
    "management",
    cls=cli.SecretOption,
    type=_ManagementUrl(),
    envvar="MANAGEMENT_URL",
    metavar="URL",
    help="RabbitMQ's management API: http://user:password@host:15672/vhost, or https://. Without "
    "it the page cannot tell what waits. MANAGEMENT_URL_FILE names a file that holds it.",
)
@cli.option(
    "--management-link",
    type=_Link(),
    envvar="MANAGEMENT_LINK",
    metavar="URL",
    show_default="MANAGEMENT_URL without its login",
    help="Where people find the management UI.",
)
@cli.queue_option
@cli.log_options
@mysql_option
def main(
    host: str,
    port: int,
    token: str | None,
    management: Management | None,
    management_link: str | None,
    queue: str,
    log_level: str,
    log_format: str,
    database: Database,
) -> None:
    """Serve the page: who serves now, what waits, what was served. Ends with SIGTERM or Ctrl-C.

    It reads only; SELECT on the database and the tag 'monitoring' in RabbitMQ are enough. Servers
    that are away are told on the page, and waited for.

    \b
    Exit codes: 0 done, 2 bad usage, 78 it cannot listen there.
    """
    if not token and not _is_loopback(host):
        raise click.UsageError(f"{host} is not loopback: give a --token (DASHBOARD_TOKEN)")

    from waitress.server import create_server  # noqa: PLC0415

    from dashboard.app import create_app  # noqa: PLC0415
    from dashboard.board import Board  # noqa: PLC0415
    from dashboard.database import Accounts, Requests  # noqa: PLC0415
    from dashboard.management import Backlog  # noqa: PLC0415
    from dashboard.watch import Pace, Source, Watcher  # noqa: PLC0415
    from turnwise import log  # noqa: PLC0415
    from turnwise.log import event  # noqa: PLC0415

    log.configure(log_level, log_format)
    # A line for each connection that a browser drops.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    board = Board(["database", "audit", *(["broker"] if management else [])])
    pace = Pace()
    sources: list[Source] = [Requests(database, board), Accounts(database, board)]
    if management:
        sources.append(Backlog(management, queue, board))
    watchers = [Watcher(source, board, pace) for source in sources]
    app = create_app(
        board,
        token=token,
        hosts=["localhost", "127.0.0.1", "[::1]", host],
        management_link=management_link or (management.link if management else None),
        pace=pace,
        alive=lambda: all(watcher.is_alive() for watcher in watchers),
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        server = create_server(
            app,
            host=host,
            port=port,
            threads=THREADS,
            connection_limit=CONNECTIONS,
            asyncore_use_poll=True,
            ident=None,
        )
    except OSError as error:
        raise ServeError(
            f"cannot serve on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from error
    for watcher in watchers:
        watcher.start()
    # Either may come before the server is ready to end by it.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        event(logger, logging.INFO, "dashboard.serving", url=_url(host, port))
        server.run()  # until one of them
    pace.stop()
    for watcher in watchers:
        watcher.join(STOP_TIMEOUT)
    event(logger, logging.INFO, "dashboard.stopped")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
