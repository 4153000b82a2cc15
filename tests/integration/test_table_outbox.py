"""The table outbox as an application uses it: with its own driver, transaction and rights."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import django
import mysql.connector
import pymysql
import pytest
import sqlalchemy
from django.conf import settings
from django.db.utils import ConnectionHandler

from tests.pipeline import Pipeline
from turnwise import outbox
from turnwise.limits import MAX_MESSAGE_BYTES

NO_WHEEL = "mysqlclient has no wheels for Linux: pip builds it, with MariaDB's or MySQL's headers"

Connect = Callable[[Pipeline], AbstractContextManager[Any]]

MESSAGES = [
    "",
    "plain",
    "ünïcödé 😀",
    'it\'s \\ "quoted" %s %d %%',
    "nul \0 here",
    "line\nline",
    "x" * MAX_MESSAGE_BYTES,
]


def _login(pipeline: Pipeline) -> dict[str, Any]:
    database = pipeline.servers.database
    user, password = (urlsplit(pipeline.mysql_url).username, database.password)
    return {
        "host": "127.0.0.1",
        "port": database.port,
        "user": user,
        "password": password,
        "database": pipeline.name,
    }


def _pymysql(pipeline: Pipeline) -> AbstractContextManager[Any]:
    return contextlib.closing(pymysql.connect(**_login(pipeline)))


def _connector(pipeline: Pipeline) -> AbstractContextManager[Any]:
    return contextlib.closing(
        mysql.connector.connect(**_login(pipeline), collation="utf8mb4_general_ci")
    )


@contextlib.contextmanager
def _sqlalchemy(pipeline: Pipeline) -> Iterator[Any]:
    login = _login(pipeline)
    url = sqlalchemy.URL.create(
        "mysql+pymysql", login["user"], login["password"], "127.0.0.1", login["port"], pipeline.name
    )
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection, connection.begin():
            yield connection.connection
    finally:
        engine.dispose()


def _mysqlclient(pipeline: Pipeline) -> AbstractContextManager[Any]:
    module: Any = pytest.importorskip("MySQLdb", reason=NO_WHEEL)
    return contextlib.closing(module.connect(**_login(pipeline), charset="utf8mb4"))


def _django(engine: str) -> Connect:
    @contextlib.contextmanager
    def connect(pipeline: Pipeline) -> Iterator[Any]:
        if engine == "django.db.backends.mysql":
            pytest.importorskip("MySQLdb", reason=NO_WHEEL)
        if not settings.configured:
            settings.configure()
            django.setup()
        login = {name.upper(): value for name, value in _login(pipeline).items()}
        login["NAME"] = login.pop("DATABASE")
        handler = ConnectionHandler({"default": {"ENGINE": engine, **login}})
        connection = handler["default"]
        connection.set_autocommit(False)
        with contextlib.closing(connection):
            yield connection

    return connect


DRIVERS = {
    "PyMySQL": _pymysql,
    "mysqlclient": _mysqlclient,
    "MySQL Connector": _connector,
    "SQLAlchemy": _sqlalchemy,
    "Django with mysqlclient": _django("django.db.backends.mysql"),
    "Django with MySQL Connector": _django("mysql.connector.django"),
}


@pytest.mark.parametrize("connect", DRIVERS.values(), ids=DRIVERS)
def test_a_row_is_visible_only_after_the_commit(pipeline: Pipeline, connect: Connect) -> None:
    pipeline.run("worker", "migrate")
    with connect(pipeline) as connection:
        cursor = connection.cursor()
        for message in MESSAGES:
            outbox.send(cursor, "receipts", message)
        assert _rows(pipeline) == []
        connection.rollback()
        assert _rows(pipeline) == []
        for message in MESSAGES:
            outbox.send(cursor, "receipts", message)
        connection.commit()
        assert _rows(pipeline) == [("receipts", message) for message in MESSAGES]
        # Keep SQLAlchemy from ending its transaction with a second COMMIT.
        cursor.close()


def test_the_time_is_that_of_the_insert_in_utc_whatever_the_sessions_time_zone(
    pipeline: Pipeline,
) -> None:
    pipeline.run("worker", "migrate")
    with _pymysql(pipeline) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+05:45'")
        outbox.send(cursor, "receipts", "hello")
        connection.commit()
    [(age,)] = pipeline.servers.database.query(
        "SELECT ABS(TIMESTAMPDIFF(SECOND, created_at, UTC_TIMESTAMP(6))) FROM outbox",
        name=pipeline.name,
    )
    assert age < 60


def test_an_insert_only_account_is_enough_for_an_application(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    with _account(pipeline, "GRANT INSERT (queue, message) ON outbox TO {}") as connection:
        with connection.cursor() as cursor:
            outbox.send(cursor, "receipts", "hello")
            for statement in (
                "SELECT message FROM outbox",
                "DELETE FROM outbox",
                "UPDATE outbox SET message = ''",
                "INSERT INTO outbox (id, queue, message) VALUES (1, 'receipts', 'mine')",
                "INSERT INTO outbox (queue, message, created_at) VALUES ('receipts', 'm', NOW())",
                "SELECT * FROM outbox_clients",
                "UPDATE outbox_relay SET epoch = 1",
            ):
                with pytest.raises(pymysql.err.OperationalError, match="denied"):
                    cursor.execute(statement)
        connection.commit()
    assert _rows(pipeline) == [("receipts", "hello")]


@pytest.mark.parametrize(
    ("queue", "message"),
    [
        ("", "m"),
        ("q" * 201, "m"),
        ("two words", "m"),
        ("line\n", "m"),
        ("nul\0", "m"),
        ("quéue", "m"),
        ("q", "x" * (MAX_MESSAGE_BYTES + 1)),
        ("q", "é" * (MAX_MESSAGE_BYTES // 2 + 1)),
        (None, "m"),
        ("q", None),
    ],
)
def test_the_database_refuses_unsendable_rows_from_any_language(
    pipeline: Pipeline, queue: str | None, message: str | None
) -> None:
    pipeline.run("worker", "migrate")
    with _pymysql(pipeline) as connection, connection.cursor() as cursor:
        with pytest.raises(pymysql.err.MySQLError):
            cursor.execute(outbox.INSERT, (queue, message))
        connection.commit()
    assert _rows(pipeline) == []


@contextlib.contextmanager
def _account(pipeline: Pipeline, grant: str) -> Iterator[Any]:
    """Connect with an account that has these rights and no others."""
    database = pipeline.servers.database
    user, password = f"app-{secrets.token_hex(4)}", secrets.token_hex(8)
    database.query(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")
    try:
        database.query(grant.format(f"'{user}'@'%'"), name=pipeline.name)
        login = _login(pipeline) | {"user": user, "password": password}
        with contextlib.closing(pymysql.connect(**login)) as connection:
            yield connection
    finally:
        database.query(f"DROP USER '{user}'@'%'")


def _rows(pipeline: Pipeline) -> list[tuple[str, str]]:
    return pipeline.servers.database.query(
        "SELECT queue, message FROM outbox ORDER BY id", name=pipeline.name
    )
