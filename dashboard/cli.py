"""The command ``dashboard``."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

import click

from dashboard.actions import Actions
from dashboard.app import Links, create_app
from dashboard.board import Board
from dashboard.database import Audits, Requests
from dashboard.logouts import Logouts
from dashboard.lookup import Lookups
from dashboard.management import Backlog, Management, parse_url
from dashboard.sessions import SHORTEST_TOKEN, Role
from dashboard.watch import Pace, Source, Watcher
from turnwise import __version__, cli, log
from turnwise.database import Database
from turnwise.errors import ExitCode, TurnwiseError
from turnwise.http_server import HttpServer
from turnwise.log import event
from turnwise.node import Node
from turnwise.options import AmqpUrl, MysqlUrl, mysql_option

THREADS = 12
"""That answer. A page asks several times a second, and gets its answer from memory."""

CONNECTIONS = 500
"""Open at the same time; a browser keeps one to six for each page."""

MAX_FORM = 64 * 1024
"""Bytes of a form: fifty chosen identities, with room to spare."""

STOP_TIMEOUT = 1.0
"""Seconds for a watcher to end; one that hangs in a read ends with the process."""

logger = logging.getLogger(__name__)


class ServeError(TurnwiseError):
    """The page cannot be served."""

    exit_code = ExitCode.CONFIG


class _ManagementUrl(cli.Url):
    def parse(self, value: str) -> Management:
        return parse_url(value)


class _Link(cli.Url):
    def parse(self, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must begin with http:// or https://")
        if parts.username:
            raise ValueError("must hold no login: everyone sees it")
        return value


class _Proxy(click.ParamType[str]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != "*":
            try:
                ipaddress.ip_address(value)
            except ValueError:
                self.fail(f"{value!r} is neither an IP address nor '*'", param, ctx)
        return str(value)


def _check_secret(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if not value:
        return None
    if len(value.strip()) < SHORTEST_TOKEN or not value.isprintable():
        raise click.BadParameter(
            f"must have at least {SHORTEST_TOKEN} printable characters, or it can be guessed; "
            "make one: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )
    return value.strip()


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
    callback=_check_secret,
    help="What a browser is asked for before it may look, and an API client sends as "
    "'Authorization: Bearer'. DASHBOARD_TOKEN_FILE names a file that holds it.",
)
@cli.option(
    "--operator-token",
    cls=cli.SecretOption,
    envvar="DASHBOARD_OPERATOR_TOKEN",
    callback=_check_secret,
    help="What is asked for before somebody may act: retry, replay, drop. Needs the operator's "
    "accounts too. DASHBOARD_OPERATOR_TOKEN_FILE names a file that holds it.",
)
@cli.option(
    "--operator-mysql-url",
    "operator_database",
    cls=cli.SecretOption,
    type=MysqlUrl(),
    envvar="DASHBOARD_OPERATOR_MYSQL_URL",
    metavar="URL",
    help="The same database with an account that may act: SELECT, UPDATE on 'failures', INSERT "
    "and UPDATE on 'page_actions', INSERT and DELETE on 'page_logouts'. DASHBOARD_OPERATOR_MYSQL_URL_FILE names a file that holds it.",
)
@cli.option(
    "--operator-amqp-url",
    "nodes",
    cls=cli.SecretOption,
    type=AmqpUrl(),
    envvar="DASHBOARD_OPERATOR_AMQP_URL",
    metavar="URL[,URL...]",
    help="RabbitMQ with an account that may read the dead letters and publish to the queue. "
    "Without it the page only counts them. DASHBOARD_OPERATOR_AMQP_URL_FILE names a file.",
)
@cli.option(
    "--session-key",
    cls=cli.SecretOption,
    envvar="DASHBOARD_SESSION_KEY",
    callback=_check_secret,
    show_default="made from the tokens",
    help="Signs the cookies of those who have logged in. With a key of its own a token can be "
    "changed without ending everybody's session. The same for all pages behind one load "
    "balancer. DASHBOARD_SESSION_KEY_FILE names a file that holds it.",
)
@cli.option(
    "--trusted-proxy",
    "proxy",
    type=_Proxy(),
    envvar="DASHBOARD_TRUSTED_PROXY",
    metavar="ADDRESS",
    help="The proxy before the page, whose X-Forwarded-For and X-Forwarded-Proto are believed: "
    "without it all logins seem to come from the proxy. '*' believes whoever connects.",
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
@cli.option(
    "--grafana-link",
    type=_Link(),
    envvar="GRAFANA_LINK",
    metavar="URL",
    help="Where people find figures older than five minutes.",
)
@cli.queue_option
@cli.log_options
@mysql_option
def main(
    host: str,
    port: int,
    token: str | None,
    operator_token: str | None,
    operator_database: Database | None,
    nodes: list[Node] | None,
    session_key: str | None,
    proxy: str | None,
    management: Management | None,
    management_link: str | None,
    grafana_link: str | None,
    queue: str,
    log_level: str,
    log_format: str,
    database: Database,
) -> None:
    """Serve the page: who serves now, what waits, what was served. Ends with SIGTERM or Ctrl-C.

    Without --operator-token it reads only; SELECT on the database and the tag 'monitoring' in
    RabbitMQ are enough. Servers that are away are told on the page, and waited for.

    \b
    Exit codes: 0 done, 2 bad usage, 78 it cannot listen there.
    """
    if not token and not _is_loopback(host):
        raise click.UsageError(f"{host} is not loopback: give a --token (DASHBOARD_TOKEN)")
    if bool(operator_token) != bool(operator_database):
        raise click.UsageError("--operator-token and --operator-mysql-url belong together")
    if token and token == operator_token:
        raise click.UsageError("--token and --operator-token must differ: they are two roles")
    log.configure(log_level, log_format)
    both = {Role.VIEWER: token, Role.OPERATOR: operator_token}
    tokens = {role: each for role, each in both.items() if each}
    board = Board(["database", "audit", *(["broker"] if management else [])])
    pace = Pace()
    lookups = Lookups(database, "dashboard lookup")
    operating = Lookups(operator_database, "dashboard operator") if operator_database else None
    logouts = Logouts(operating or lookups)
    sources: list[Source] = [Requests(database, board, logouts), Audits(database, board)]
    if management:
        sources.append(Backlog(management, queue, board))
    watchers = [Watcher(source, board, pace) for source in sources]
    app = create_app(
        board,
        tokens=tokens,
        session_key=session_key or "\n".join(sorted(tokens.values())),
        hosts={"localhost", "127.0.0.1", "::1", host},
        links=Links(management_link or (management.link if management else None), grafana_link),
        lookups=lookups,
        logouts=logouts,
        acting=Actions(operating) if operating else None,
        nodes=nodes,
        queue=queue,
        pace=pace,
        alive=lambda: all(watcher.is_alive() for watcher in watchers),
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        server = HttpServer(
            app,
            (host, port),
            threads=THREADS,
            connections=CONNECTIONS,
            max_body=MAX_FORM,
            proxy=proxy,
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
