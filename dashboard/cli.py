"""The command ``dashboard``."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import click

from dashboard.management import Management, parse_url
from dashboard.sessions import SHORTEST_TOKEN, Role
from turnwise import __version__, cli, log, parameters
from turnwise.database import Database
from turnwise.node import Node
from turnwise.options import AmqpUrl, MysqlUrl, mysql_option


class _ManagementUrl(parameters.Url):
    def parse(self, value: str) -> Management:
        return parse_url(value)


class _Link(parameters.Url):
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
    help="The port to listen on.",
)
@cli.option(
    "--token",
    cls=parameters.SecretOption,
    envvar="DASHBOARD_TOKEN",
    callback=_check_secret,
    help="The token that lets people view the page, and that API clients send as "
    "'Authorization: Bearer'. DASHBOARD_TOKEN_FILE names a file that holds it.",
)
@cli.option(
    "--operator-token",
    cls=parameters.SecretOption,
    envvar="DASHBOARD_OPERATOR_TOKEN",
    callback=_check_secret,
    help="The token that lets operators act: retry, replay, drop. It needs the operator's "
    "accounts too. DASHBOARD_OPERATOR_TOKEN_FILE names a file that holds it.",
)
@cli.option(
    "--operator-mysql-url",
    "operator_database",
    cls=parameters.SecretOption,
    type=MysqlUrl(),
    envvar="DASHBOARD_OPERATOR_MYSQL_URL",
    metavar="URL",
    help="The same database, with an account that may act: SELECT, UPDATE on 'failures', INSERT "
    "and UPDATE on 'page_actions', INSERT and DELETE on 'page_logouts'. "
    "DASHBOARD_OPERATOR_MYSQL_URL_FILE names a file that holds it.",
)
@cli.option(
    "--operator-amqp-url",
    "nodes",
    cls=parameters.SecretOption,
    type=AmqpUrl(),
    envvar="DASHBOARD_OPERATOR_AMQP_URL",
    metavar="URL[,URL...]",
    help="RabbitMQ with an account that may read the dead letters and publish to the queue. "
    "Without it the page only counts them. DASHBOARD_OPERATOR_AMQP_URL_FILE names a file "
    "that holds it.",
)
@cli.option(
    "--session-key",
    cls=parameters.SecretOption,
    envvar="DASHBOARD_SESSION_KEY",
    callback=_check_secret,
    show_default="made from the tokens",
    help="The key that signs session cookies, the same for all pages behind one load balancer. "
    "Set it to change a token without ending all sessions. "
    "DASHBOARD_SESSION_KEY_FILE names a file that holds it.",
)
@cli.option(
    "--trusted-proxy",
    "proxy",
    type=_Proxy(),
    envvar="DASHBOARD_TRUSTED_PROXY",
    metavar="ADDRESS",
    help="The proxy in front of the page, whose X-Forwarded-For and X-Forwarded-Proto are trusted: "
    "without it all logins seem to come from the proxy. '*' trusts every client.",
)
@cli.option(
    "--management-url",
    "management",
    cls=parameters.SecretOption,
    type=_ManagementUrl(),
    envvar="MANAGEMENT_URL",
    metavar="URL",
    help="RabbitMQ's management API: http://user:password@host:15672/vhost, or https://. Without "
    "it the page cannot show what is waiting. MANAGEMENT_URL_FILE names a file that holds it.",
)
@cli.option(
    "--management-link",
    type=_Link(),
    envvar="MANAGEMENT_LINK",
    metavar="URL",
    show_default="MANAGEMENT_URL without its login",
    help="The address of the management UI that the page links to.",
)
@cli.option(
    "--grafana-link",
    type=_Link(),
    envvar="GRAFANA_LINK",
    metavar="URL",
    help="The address of a Grafana dashboard that the page links to for older figures.",
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
    """Serve the page, which shows live who serves, what is waiting and what was served.

    It runs until SIGTERM or Ctrl-C. Without --operator-token it is read-only: SELECT on the
    database and the tag 'monitoring' in RabbitMQ are enough. It reports servers that are
    unreachable, and waits for them.

    \b
    Exit codes: 0 done, 2 bad usage, 78 it cannot listen on that address.
    """
    if not token and not parameters.is_loopback(host):
        raise click.UsageError(f"{host} is not loopback: give a --token (DASHBOARD_TOKEN)")
    if bool(operator_token) != bool(operator_database):
        raise click.UsageError("--operator-token and --operator-mysql-url belong together")
    if token and token == operator_token:
        raise click.UsageError("--token and --operator-token must differ: they stand for two roles")
    log.configure(log_level, log_format)
    both = {Role.VIEWER: token, Role.OPERATOR: operator_token}
    server = cli.import_extra("dashboard.server", "page")
    server.serve(
        server.Settings(
            address=(host, port),
            tokens={role: each for role, each in both.items() if each},
            session_key=session_key,
            proxy=proxy,
            database=database,
            operator_database=operator_database,
            nodes=nodes,
            management=management,
            management_link=management_link or (management.link if management else None),
            grafana_link=grafana_link,
            queue=queue,
        )
    )
