"""Creating the tables on servers that lack named locks."""

from __future__ import annotations

import contextlib
from typing import Any

import pymysql
import pytest
from pymysql.constants import ER
from pymysql.cursors import Cursor

from tests.pipeline import Pipeline
from turnwise.database import parse_url
from turnwise.errors import Transient
from worker.schema import VERSION, migrate


def refusing(code: int) -> type[Cursor]:
    """Return a real cursor of a server that lacks named locks and reports it as error ``code``."""

    class Refusing(Cursor):
        def execute(self, query: str, args: Any = None) -> int:
            if "GET_LOCK" in query:
                raise pymysql.OperationalError(code, "prohibits use of GET_LOCK")
            return super().execute(query, args)

    return Refusing


@pytest.mark.parametrize("code", [ER.NOT_SUPPORTED_YET, ER.UNKNOWN_ERROR])
def test_a_server_without_named_locks_can_be_migrated(pipeline: Pipeline, code: int) -> None:
    database = parse_url(pipeline.mysql_url)
    with contextlib.closing(database.connect("test")) as connection:
        connection.cursorclass = refusing(code)
        assert migrate(connection, database) == VERSION
        assert migrate(connection, database) == 0


def test_any_other_error_of_the_lock_is_raised(pipeline: Pipeline) -> None:
    database = parse_url(pipeline.mysql_url)
    with contextlib.closing(database.connect("test")) as connection:
        connection.cursorclass = refusing(ER.OPTION_PREVENTS_STATEMENT)
        with pytest.raises(Transient):
            migrate(connection, database)
