"""The publisher as tutorials write it: publish, wait for the confirm, next. It stores nothing.

python -m lab.bench.textbook_publisher COUNT, with AMQP_URL.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime

import pika


def main(count: int) -> None:
    """Publish ``count`` requests."""
    print("begun", flush=True)
    with pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as broker:
        channel = broker.channel()
        channel.confirm_delivery()
        for counter in range(1, count + 1):
            sent_at = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
            request = {
                "client": "textbook",
                "counter": counter,
                "message": "hello",
                "sent_at": f"{sent_at}Z",
            }
            channel.basic_publish(
                "requests",
                "requests",
                json.dumps(request).encode(),
                pika.BasicProperties(content_type="application/json", delivery_mode=2),
                mandatory=True,
            )
        print("confirmed", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
