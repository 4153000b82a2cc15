"""Describes a dead letter: its contents, and why it was dead-lettered. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pika import BasicProperties

from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest
from turnwise.message import Request, decode_properties
from turnwise.topology import DELIVERY_LIMIT

INVALID = "invalid"
CONFLICT = "conflict"

PREVIEW = 200
"""Bytes of a body that are shown."""

_MOST = 100
"""The most headers, and entries of x-death, that are described."""

_LONGEST = 1000
"""Characters of a header that are shown."""

_WORD = 80
"""Characters of a message's own short fields that are shown."""

_BROKERS_HEADERS = (
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
)

_DELIVERIES, _ACQUIREMENTS = b"x-delivery-count", b"x-acquired-count"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, safe to display. ``id`` is derived from its content.

    ``died_at`` is the broker's time, to the second; None if the broker did not record it.
    ``size`` is the size of the body in bytes; ``body`` is its beginning.
    """

    id: str
    message_id: str | None
    reason: str
    detail: str
    died_at: datetime | None
    size: int
    body: str


@dataclass(frozen=True, slots=True)
class Whole:
    """One dead letter in full. All of it is untrusted text: display it as text only.

    ``text`` is the body, None if it was too large to be kept. ``properties`` and ``headers`` are
    names and values; ``deaths`` is what the broker recorded, or a sender forged, latest first.
    """

    letter: Letter
    text: str | None
    properties: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    deaths: tuple[dict[str, str], ...]


def identify(delivery: Delivery) -> str:
    """Return the ID of a dead letter, derived from its body and its ``message_id``.

    Letters that are too large to be kept share one ID per size.
    """
    return _identify(delivery, _message_id(_properties(delivery)))


def read(delivery: Delivery, queue: str) -> Letter:
    """Describe a delivery from the dead letters of ``queue``."""
    properties = _properties(delivery)
    if isinstance(properties, InvalidRequest):
        reason, detail, readable = INVALID, str(properties), _readable(delivery)
    else:
        reason, detail = explain(delivery.body, properties, queue)
        readable = properties
    died_at = _time(_death(readable, queue).get("time"))
    message_id = _message_id(properties)
    return Letter(
        id=_identify(delivery, message_id),
        message_id=None if message_id is None else _printable(message_id),
        reason=reason,
        detail=detail,
        died_at=died_at,
        size=delivery.size,
        body=_preview(delivery.body),
    )


def read_whole(delivery: Delivery, queue: str) -> Whole:
    """Describe a delivery from the dead letters of ``queue`` in full."""
    readable = _readable(delivery)
    headers: dict[str, Any] = readable.headers or {}
    deaths = headers.get("x-death")
    notes = deaths if type(deaths) is list else []
    return Whole(
        letter=read(delivery, queue),
        text=None if delivery.problem else delivery.body.decode(errors="backslashreplace"),
        properties=tuple(
            (name, _text(value))
            for name, value in vars(readable).items()
            if name != "headers" and value is not None
        ),
        headers=tuple(
            (str(name), _text(value))
            for name, value in list(headers.items())[:_MOST]
            if name != "x-death" or not notes
        ),
        deaths=tuple(
            {str(name): _text(value) for name, value in note.items()}
            if isinstance(note, dict)
            else {"reason": _text(note)}
            for note in notes[:_MOST]
        ),
    )


def explain(body: bytes, properties: BasicProperties, queue: str) -> tuple[str, str]:
    """Return why a message of ``queue`` was dead-lettered: a keyword and a sentence. Never raises.

    The broker records that it was rejected, not why. But a worker rejects for only two reasons, and
    decoding the message again shows whether it was the first.
    """
    reason = _death(properties, queue).get("reason")
    if reason == "delivery_limit":
        return "delivery_limit", (
            f"delivered more than {DELIVERY_LIMIT} times without an ack: it may end its worker"
        )
    if isinstance(reason, str) and reason != "rejected":
        return _printable(reason), "the broker removed it from its queue"
    try:
        Request.decode(body, properties)
    except InvalidRequest as error:
        return INVALID, str(error)
    return CONFLICT, "another request with this identity is stored"


def was_returned(delivery: Delivery) -> bool:
    """Whether the letter was delivered before and returned to the queue.

    The broker counts returns, and keeps returned letters in front of the others. RabbitMQ 4
    continues the count from the queue in which the message died, usually from one. A sender can
    forge such counts, which only makes reading the letters take longer.
    """
    if delivery.problem:
        return True  # unknown
    if not any(mark in delivery.properties for mark in (_DELIVERIES, _ACQUIREMENTS)):
        return False
    properties = _properties(delivery)
    if isinstance(properties, InvalidRequest):
        return True
    headers = properties.headers or {}
    counts = [headers.get(mark.decode(), 0) for mark in (_DELIVERIES, _ACQUIREMENTS)]
    inherits = _ACQUIREMENTS.decode() in headers and "x-death" in headers
    return not all(isinstance(count, int) and count <= inherits for count in counts)


def to_replay(delivery: Delivery) -> BasicProperties:
    """Return the properties to publish a letter with again.

    They lack the broker's record of its death, and ``user_id``: the broker accepts only the name of
    the publishing user there. Raises InvalidRequest if the letter was too large to be kept, or its
    properties cannot be read.
    """
    if delivery.problem:
        raise delivery.problem
    properties = _decode(delivery.properties)
    properties.user_id = None
    properties.headers = {
        name: value
        for name, value in (properties.headers or {}).items()
        if not name.startswith(_BROKERS_HEADERS)
    } or None
    return properties


def _properties(delivery: Delivery) -> BasicProperties | InvalidRequest:
    if delivery.problem:
        return delivery.problem
    try:
        return _decode(delivery.properties)
    except InvalidRequest as error:
        return error


def _readable(delivery: Delivery) -> BasicProperties:
    """Return the properties, also of a letter too large to be kept; none if they are unreadable."""
    try:
        return _decode(delivery.properties)
    except InvalidRequest:
        return BasicProperties()


def _decode(data: bytes) -> BasicProperties:
    """Decode properties, and check that pika can encode them: it reads a large double as a long."""
    properties = decode_properties(data)
    try:
        properties.encode()
    except Exception as error:  # noqa: BLE001 - an odd header can make pika's encoder raise anything
        raise InvalidRequest("properties", f"cannot be written: {error!r}"[:200]) from None
    return properties


def _message_id(properties: BasicProperties | InvalidRequest) -> str | None:
    found = None if isinstance(properties, InvalidRequest) else properties.message_id
    return None if found is None else str(found)


def _identify(delivery: Delivery, message_id: str | None) -> str:
    content = str(delivery.problem).encode() if delivery.problem else delivery.body
    return hashlib.sha256(content + (message_id or "").encode(errors="replace")).hexdigest()[:12]


def _death(properties: BasicProperties, queue: str) -> dict[str, Any]:
    """Return what the broker recorded when the message left ``queue``.

    A sender can forge such entries, of any type. The broker's own entry comes before them.
    """
    deaths = (properties.headers or {}).get("x-death")
    notes = [death for death in deaths if isinstance(death, dict)] if type(deaths) is list else []
    return next((note for note in notes if note.get("queue") == queue), {})


def _time(value: object) -> datetime | None:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else None


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if type(value) is list and value and all(isinstance(each, str) for each in value):
        return ", ".join(value)[:_LONGEST]
    return str(value)[:_LONGEST]


def _printable(text: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_WORD]
    )


def _preview(body: bytes) -> str:
    text = body[:PREVIEW].decode(errors="backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown + ("..." if len(body) > PREVIEW else "")
