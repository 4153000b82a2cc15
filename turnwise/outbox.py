"""The table ``outbox``: requests that an application inserts in its own transaction.

    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (id, sku) VALUES (%s, %s)", (17, "A-3"))
        outbox.send(cursor, "receipts", json.dumps({"order": 17}))
    connection.commit()

After the COMMIT both rows exist, or neither does. ``producer relay`` numbers the committed rows and
publishes them (docs/outbox.md).
"""

from __future__ import annotations

from typing import Protocol

from turnwise.limits import check_message, check_queue

INSERT = "INSERT INTO outbox (queue, message) VALUES (%s, %s)"
"""What send() executes; in another language, execute the same. Leave ``id`` and ``created_at`` to
the server, and set the connection's character set to utf8mb4."""


class Cursor(Protocol):
    """A cursor of any driver with the paramstyle ``format`` or ``pyformat``.

    For example those of PyMySQL, mysqlclient and MySQL Connector, and those that SQLAlchemy
    (``connection.connection.cursor()``) and Django (``connection.cursor()``) return.
    """

    def execute(self, statement: str, parameters: tuple[str, str], /) -> object:
        """Execute a statement with its parameters."""


def send(cursor: Cursor, queue: str, message: str) -> None:
    """Insert ``message`` for ``queue``, in the transaction of ``cursor``.

    It is sent only if that transaction commits; with autocommit, the insert is one by itself.

    queue:   1 to 200 of ``A-Za-z0-9._-``
    message: text without lone surrogates, at most 16 KiB in UTF-8; may be empty

    Raises InvalidRequest, before executing anything, if the queue or the message is out of bounds,
    and the driver's own errors.
    """
    check_queue(queue)
    check_message(message)
    cursor.execute(INSERT, (queue, message))
