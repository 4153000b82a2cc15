"""The web view as tutorials write it: publish, wait for the confirm, answer. One after another.

python -m lab.bench.textbook_view PORT, with AMQP_URL. It is better than most: it keeps a
connection for each thread, and has as many threads as the bench has clients.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pika
import waitress
from flask import Flask, request

from lab.bench.http_load import CONNECTIONS

app = Flask(__name__)
of_thread = threading.local()


def channel() -> Any:
    """Return this thread's own channel."""
    if not hasattr(of_thread, "channel"):
        parameters = pika.URLParameters(os.environ["AMQP_URL"])
        parameters.heartbeat = 0
        of_thread.channel = pika.BlockingConnection(parameters).channel()
        of_thread.channel.confirm_delivery()
    return of_thread.channel


@app.put("/requests/<client>/<int:counter>")
def put(client: str, counter: int) -> tuple[str, int]:
    """Publish a request."""
    sent_at = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    body = {
        "client": client,
        "counter": counter,
        "message": request.get_data(as_text=True),
        "sent_at": f"{sent_at}Z",
    }
    channel().basic_publish(
        "requests",
        "requests",
        json.dumps(body).encode(),
        pika.BasicProperties(content_type="application/json", delivery_mode=2),
        mandatory=True,
    )
    return "", 201


if __name__ == "__main__":
    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=CONNECTIONS, _quiet=True)
