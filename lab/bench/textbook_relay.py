"""The outbox's poller as tutorials write it: read some rows, publish each, delete them.

python -m lab.bench.textbook_relay, with AMQP_URL and MYSQL_URL; ends when the table is empty.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import pika
import pymysql

_SOME = "SELECT id, queue, message FROM outbox ORDER BY id LIMIT 100"


def main() -> None:
    """Publish all rows of the table."""
    url = urlsplit(os.environ["MYSQL_URL"])
    database = pymysql.connect(
        host=url.hostname,
        port=url.port or 3306,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        database=url.path[1:],
    )
    print("begun", flush=True)
    with database, pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as broker:
        channel = broker.channel()
        channel.confirm_delivery()
        cursor = database.cursor()
        while cursor.execute(_SOME):
            rows = cursor.fetchall()
            for number, queue, message in rows:
                sent_at = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
                request = {
                    "client": "textbook",
                    "counter": number,
                    "message": message,
                    "sent_at": f"{sent_at}Z",
                }
                channel.basic_publish(
                    queue,
                    queue,
                    json.dumps(request).encode(),
                    pika.BasicProperties(content_type="application/json", delivery_mode=2),
                    mandatory=True,
                )
            cursor.execute("DELETE FROM outbox WHERE id IN %s", ([row[0] for row in rows],))
            database.commit()
    print("confirmed", flush=True)


if __name__ == "__main__":
    main()
