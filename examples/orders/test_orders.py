"""Tests of a handler against a database, which they leave unchanged.

ORDERS_MYSQL_URL=mysql://user:password@localhost/test pytest test_orders.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import orders
import pytest

from turnwise import Reject, Retry
from turnwise.database import Connection, parse_url
from turnwise.testing import serve, serving

TABLES = Path(__file__).with_name("tables.sql").read_text()


@pytest.fixture
def connection() -> Iterator[Connection]:
    connection = parse_url(os.environ["ORDERS_MYSQL_URL"]).connect("tests")
    with connection.cursor() as cursor:
        for statement in filter(str.strip, TABLES.split(";")):
            cursor.execute(statement)
    yield connection
    connection.close()


def order(sku: str, items: int) -> str:
    return json.dumps({"sku": sku, "items": items})


def test_an_order_takes_from_the_stock_and_sends_a_receipt(connection: Connection) -> None:
    ordered = order("apple", 2)
    with serving(orders.serve, ordered, connection) as served, connection.cursor() as cursor:
        cursor.execute("SELECT items FROM stock WHERE sku = 'apple'")
        assert cursor.fetchone() == (98,)
    [receipt] = served.sent
    assert receipt.queue == "receipts"
    assert json.loads(receipt.message)["items"] == 2


@pytest.mark.parametrize("message", ["", "[]", "{}", order("apple", 0)])
def test_an_invalid_order_is_rejected(connection: Connection, message: str) -> None:
    with pytest.raises(Reject):
        serve(orders.serve, message, connection)


def test_an_order_for_more_than_the_stock_is_retried(connection: Connection) -> None:
    with pytest.raises(Retry) as caught:
        serve(orders.serve, order("pear", 6), connection)
    assert caught.value.after == 10
