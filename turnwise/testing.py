"""Run a handler in a test, as a worker would, and leave the database unchanged.

    def test_stock_goes_down(connection):
        with serving(orders.serve, '{"sku": 1, "items": 2}', connection) as served:
            with connection.cursor() as cursor:
                cursor.execute("SELECT items FROM stock WHERE sku = 1")
                assert cursor.fetchone() == (98,)
        assert served.sent == [("receipts", '{"sku": 1}')]

``connection`` is a PyMySQL connection to a database with the handler's own tables; Turnwise's
tables are not needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from turnwise.database import Connection
from turnwise.door import Door
from turnwise.handler import Handler
from turnwise.limits import check_message, check_queue
from turnwise.message import Request


class Sent(NamedTuple):
    """A follow-up request that a handler sent."""

    queue: str
    message: str


@dataclass(frozen=True, slots=True)
class Served:
    """The request that was served, and the follow-ups that were sent."""

    request: Request
    sent: list[Sent] = field(default_factory=list)


def serve(handler: Handler, message: str | Request, connection: Connection) -> list[Sent]:
    """Run a handler, roll back what it did, and return what it sent.

    ``message`` may be a Request, where the client or the counter matters. Raises what the handler
    raises; NotAllowed if it did something that is not allowed; and the driver's error if the
    database ended the transaction. The last two are raised even if the handler swallowed them.
    """
    with serving(handler, message, connection) as served:
        return served.sent


@contextlib.contextmanager
def serving(handler: Handler, message: str | Request, connection: Connection) -> Iterator[Served]:
    """Run a handler as serve() does; its effects can be inspected until the context ends."""
    request = (
        message
        if isinstance(message, Request)
        else Request(client="test", counter=1, message=message, sent_at=datetime.now(UTC))
    )
    served = Served(request)

    def send(_cursor: object, queue: str, text: str) -> None:
        check_queue(queue)
        check_message(text)
        served.sent.append(Sent(queue, text))

    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.begin()
    try:
        door = Door(connection, send)
        try:
            handler(request, door)
        finally:
            door.close()
        if door.fault is not None:
            raise door.fault
        yield served
    finally:
        if connection.open:
            connection.rollback()
