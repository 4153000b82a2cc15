"""The table ``outbox``: requests that an application leaves in its own transaction.

    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (id, sku) VALUES (%s, %s)", (17, "A-3"))
        outbox.send(cursor, "receipts", json.dumps({"order": 17}))
    connection.commit()

Both are there after the COMMIT, or neither is. ``producer relay`` numbers what is committed and
publishes it (docs/outbox.md).
"""

from __future__ import annotations

from typing import Protocol

from turnwise.limits import check_message, check_queue

INSERT = "INSERT INTO outbox (queue, message) VALUES (%s, %s)"
"""What send() executes; in another language, do the same. Leave ``id`` and ``created_at`` to the
server, and let the connection's character set be utf8mb4."""


class Cursor(Protocol):
    """A cursor of any driver with the paramstyle ``format`` or ``pyformat``.

    Such are PyMySQL's, mysqlclient's and MySQL Connector's, and the ones that SQLAlchemy
    (``connection.connection.cursor()``) and Django (``connection.cursor()``) hand out.
    """

    def execute(self, statement: str, parameters: tuple[str, str], /) -> object:
        """Execute a statement with its parameters."""


def send(cursor: Cursor, queue: str, message: str) -> None:
    """Leave ``message`` for ``queue`` in the transaction that ``cursor`` is in.

    Nothing is sent unless that transaction commits; with autocommit, this is its own transaction.

    queue:   1 to 200 of ``A-Za-z0-9._-``
    message: text without lone surrogates, at most 16 KiB in UTF-8; may be empty

    Raises InvalidRequest, before anything is executed, for a queue or a message out of bounds; and
    whatever the driver raises.
    """
    check_queue(queue)
    check_message(message)
    cursor.execute(INSERT, (queue, message))
