"""The limits on queue names and messages. This module imports no driver."""

from __future__ import annotations

import re

from turnwise.errors import InvalidRequest

MAX_MESSAGE_BYTES = 16 * 1024
MAX_QUEUE_LENGTH = 200

_QUEUE = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_QUEUE_LENGTH}}}", re.ASCII)


def check_queue(queue: object) -> None:
    """Raise InvalidRequest unless ``queue`` can be the name of a queue."""
    if not isinstance(queue, str):
        raise InvalidRequest("queue", "must be a string")
    if not _QUEUE.fullmatch(queue):
        raise InvalidRequest(
            "queue", f"must be 1 to {MAX_QUEUE_LENGTH} characters of A-Z a-z 0-9 . _ -"
        )


def check_message(message: object) -> None:
    """Raise InvalidRequest unless ``message`` can be the message of a request."""
    if not isinstance(message, str):
        raise InvalidRequest("message", "must be a string")
    if message.isascii() and len(message) <= MAX_MESSAGE_BYTES:
        return  # the usual case: isascii() does not read the text
    try:
        size = len(message.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("message", "holds a lone surrogate") from None
    if size > MAX_MESSAGE_BYTES:
        raise InvalidRequest(
            "message", f"has {size} bytes, more than the {MAX_MESSAGE_BYTES} allowed"
        )
