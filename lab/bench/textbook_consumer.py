"""The consumer as tutorials write it: one message, INSERT, COMMIT, ack. Do not improve it.

python -m lab.bench.textbook_consumer NAME, with AMQP_URL and MYSQL_URL; with ``work NAME`` it also
does the work of lab/bench/stock.py in the same commit.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from typing import Any

import pika
import pymysql

from lab.bench.stock import SKUS
from turnwise.database import parse_url


def main(name: str, *, work: bool) -> None:
    """Consume until killed."""
    address = parse_url(os.environ["MYSQL_URL"])
    database = pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=address.name,
    )
    cursor = database.cursor()
    broker = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = broker.channel()

    def on_message(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        request = json.loads(body)
        cursor.execute(
            "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
            " VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6), %s)",
            (
                request["client"],
                request["counter"],
                request["message"],
                datetime.fromisoformat(request["sent_at"]),
                name,
            ),
        )
        if work:
            cursor.execute(
                "UPDATE stock SET items = items - %s WHERE sku = %s",
                (1, request["counter"] % SKUS),
            )
        database.commit()
        channel.basic_ack(method.delivery_tag)

    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("requests", on_message)
    print(json.dumps({"event": "worker.consuming"}), flush=True)
    channel.start_consuming()


if __name__ == "__main__":
    main(sys.argv[-1], work=sys.argv[1] == "work")
