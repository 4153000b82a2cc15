"""The options that name the servers; a command that has them imports the drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from turnwise import database, node
from turnwise.cli import option
from turnwise.parameters import SecretOption, Url

F = TypeVar("F", bound=Callable[..., Any])


class AmqpUrl(Url):
    """AMQP_URL."""

    def parse(self, value: str) -> list[node.Node]:
        """Read it."""
        return node.parse_urls(value)


class MysqlUrl(Url):
    """MYSQL_URL."""

    def parse(self, value: str) -> database.Database:
        """Read it."""
        return database.parse_url(value)


def amqp_option(command: F) -> F:
    """Add ``--amqp-url``; the command gets ``nodes``."""
    return option(
        "--amqp-url",
        "nodes",
        cls=SecretOption,
        type=AmqpUrl(),
        envvar="AMQP_URL",
        required=True,
        metavar="URL[,URL...]",
        help="RabbitMQ: amqp://user:password@host:5672/vhost, or amqps://. With several nodes, the "
        "process's own name decides which is tried first; the others follow at random. "
        "AMQP_URL_FILE names a file that holds it.",
    )(command)


def _mysql_option(*, required: bool) -> Callable[[F], F]:
    return option(
        "--mysql-url",
        "database",
        cls=SecretOption,
        type=MysqlUrl(),
        envvar="MYSQL_URL",
        required=required,
        metavar="URL[,URL...]",
        help="MySQL or MariaDB: mysql://user:password@host:3306/counter_db. Several hosts of one "
        "database are tried in the order given. MYSQL_URL_FILE names a file that holds it.",
    )


def mysql_option(command: F) -> F:
    """Add ``--mysql-url``; the command gets ``database``."""
    return _mysql_option(required=True)(command)


def optional_mysql_option(command: F) -> F:
    """Add ``--mysql-url``; the command gets ``database``, or None."""
    return _mysql_option(required=False)(command)
