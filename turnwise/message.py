"""The request: its identity, its limits and its wire format (docs/message-format.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import msgspec
from pika import BasicProperties
from pika.delivery_mode import DeliveryMode

from turnwise.errors import InvalidRequest
from turnwise.limits import MAX_MESSAGE_BYTES, check_message

CONTENT_TYPE = "application/json"
TYPE = "request"
APP_ID = "turnwise"

MAX_CLIENT_LENGTH = 64
MAX_COUNTER = 2**63 - 1
MAX_BODY_BYTES = 100 * 1024
"""JSON may encode one byte of a message as six (``\\u0001``): 96 KiB, plus the other fields."""
MAX_PROPERTIES_BYTES = 16 * 1024
"""Headers included. Turnwise itself needs at most 120; the rest leaves room for tracing headers."""

# AMQP 0-9-1 encodes properties as flags that mark those present, then each in a fixed order.
_FLAGS = (
    BasicProperties.FLAG_CONTENT_TYPE
    | BasicProperties.FLAG_DELIVERY_MODE
    | BasicProperties.FLAG_MESSAGE_ID
    | BasicProperties.FLAG_TIMESTAMP
    | BasicProperties.FLAG_TYPE
    | BasicProperties.FLAG_APP_ID
)


def _short_string(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


_BEFORE_ID = (
    _FLAGS.to_bytes(2) + _short_string(CONTENT_TYPE) + bytes([DeliveryMode.Persistent.value])
)
_ID = len(_BEFORE_ID) + 1  # offset of the first byte, after the length
_AFTER_TIMESTAMP = _short_string(TYPE) + _short_string(APP_ID)

_TIMESTAMP_AND_REST = 8 + len(_AFTER_TIMESTAMP)

_FIELDS = frozenset({"client", "counter", "message", "sent_at"})
_CLIENT = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# RFC 3339 in UTC. The pattern is stricter than fromisoformat(), which takes week dates and 24:00.
_SENT_AT = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?Z", re.ASCII)
# DATETIME of MySQL and MariaDB begins in the year 1000; AMQP's timestamp in 1970.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Request:
    """One numbered request. The constructor raises InvalidRequest if a value is out of range.

    client:  1 to 64 of ``A-Za-z0-9._-``
    counter: 1 to 2**63 - 1; together with ``client``, the identity
    message: text without lone surrogates, at most 16 KiB in UTF-8; may be empty
    sent_at: when the outbox accepted it, UTC, to the microsecond
    """

    client: str
    counter: int
    message: str
    sent_at: datetime

    def __post_init__(self) -> None:
        _check(self.client, self.counter, self.message, self.sent_at)

    @property
    def message_id(self) -> str:
        """The identity as AMQP's ``message_id``: ``client/counter``."""
        return f"{self.client}/{self.counter}"

    def encode(self) -> bytes:
        """Return the body: JSON in UTF-8."""
        return _encode(self)

    def properties(self) -> BasicProperties:
        """Return the AMQP properties: persistent, each used as AMQP 0-9-1 defines it."""
        return BasicProperties(
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.Persistent.value,
            message_id=self.message_id,
            timestamp=int(self.sent_at.timestamp()),
            type=TYPE,
            app_id=APP_ID,
        )

    def encode_properties(self) -> bytes:
        """Return the same properties in wire format.

        Written by hand because each delivery's properties are compared with these; pika's encoder
        would take as long as all the other work together.
        """
        return _write_properties(self.client, self.counter, self.sent_at)

    @classmethod
    def receive(cls, body: bytes, properties: bytes) -> Request:
        """Decode a delivery from its bytes on the wire. Otherwise like decode().

        What the producer sends is recognised by encoding it again: identical bytes mean the same
        fields, each present once and within its bounds. Anything else takes the slow path.
        """
        request = _read_own(body) or cls.decode(body)
        if not _are_own(properties, request):
            _agree(request, decode_properties(properties))
        return request

    @classmethod
    def decode(cls, body: bytes, properties: BasicProperties | None = None) -> Request:
        """Decode a body, and check that the properties that are set agree with it.

        Raises InvalidRequest and nothing else, whatever the bytes are.
        """
        about = b"".join(properties.encode()) if properties is not None else b""
        check_sizes(len(body), len(about))
        fields = _fields(body)
        if fields.keys() != _FIELDS:
            if missing := sorted(_FIELDS - fields.keys()):
                raise InvalidRequest(missing[0], "is missing")
            unknown = min(fields.keys() - _FIELDS)
            raise InvalidRequest("body", f"has an unknown field {unknown[:64]!a}")
        request = cls(
            client=fields["client"],
            counter=fields["counter"],
            message=fields["message"],
            sent_at=_time(fields["sent_at"]),
        )
        if properties is not None:
            _agree(request, properties)
        return request


def write(client: str, counter: int, message: str, sent_at: datetime) -> tuple[bytes, bytes]:
    """Return the body and the properties of a request, as Request encodes them.

    For callers that only encode, and encode thousands: this takes half as long as constructing a
    Request for each. Raises InvalidRequest like the constructor.
    """
    _check(client, counter, message, sent_at)
    body = _encode(_Own(client, counter, message, sent_at))
    return body, _write_properties(client, counter, sent_at)


def _check(client: object, counter: object, message: object, sent_at: datetime) -> None:
    if not isinstance(client, str):
        raise InvalidRequest("client", "must be a string")
    if not _CLIENT.fullmatch(client):
        raise InvalidRequest(
            "client", f"must be 1 to {MAX_CLIENT_LENGTH} characters of A-Z a-z 0-9 . _ -"
        )
    # A bool is an int in Python, but not a counter.
    if type(counter) is not int:
        raise InvalidRequest("counter", "must be an integer")
    if not 1 <= counter <= MAX_COUNTER:
        raise InvalidRequest("counter", f"must be between 1 and {MAX_COUNTER}")
    check_message(message)
    if sent_at.tzinfo != UTC or sent_at < _EPOCH:
        raise InvalidRequest("sent_at", "must be a UTC time since 1970")


def _write_properties(client: str, counter: int, sent_at: datetime) -> bytes:
    message_id = f"{client}/{counter}".encode()
    return b"%b%c%b%b%b" % (
        _BEFORE_ID,
        len(message_id),
        message_id,
        int(sent_at.timestamp()).to_bytes(8),
        _AFTER_TIMESTAMP,
    )


def write_times(requests: Iterable[Request]) -> list[str]:
    """Return each request's ``sent_at`` as in its body, without the zone."""
    # All in one call: formatting each datetime separately takes ten times as long.
    return _encode([request.sent_at for request in requests])[2:-3].decode().split('Z","')


def check_sizes(body: int, properties: int) -> None:
    """Raise InvalidRequest if a message of these sizes (bytes) is too large for a request."""
    if body > MAX_BODY_BYTES:
        raise InvalidRequest("body", f"has {body} bytes, more than the {MAX_BODY_BYTES} allowed")
    if properties > MAX_PROPERTIES_BYTES:
        raise InvalidRequest(
            "properties", f"take {properties} bytes, more than the {MAX_PROPERTIES_BYTES} allowed"
        )


def decode_properties(data: bytes) -> BasicProperties:
    """Decode AMQP properties from the wire. Raises InvalidRequest and nothing else."""
    properties = BasicProperties()
    try:
        properties.decode(data)
    except Exception as error:  # noqa: BLE001 - an odd header can make pika's decoder raise anything
        raise InvalidRequest("properties", f"cannot be read: {error!r}"[:200]) from None
    return properties


def _fields(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("body", f"is not UTF-8 at byte {error.start}") from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest("body", f"is not JSON: {error.msg} at {error.pos}") from None
    except RecursionError:
        raise InvalidRequest("body", "is nested too deeply") from None
    except InvalidRequest:
        raise
    except ValueError:
        # Python refuses to read integers of more than 4300 digits.
        raise InvalidRequest("body", "holds a number with too many digits") from None
    if not isinstance(value, dict):
        raise InvalidRequest("body", "must be a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest("body", f"has the field {twice[:64]!a} twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest("body", f"holds {name}, which is not JSON")


# Created once: json.loads() would create one for each request.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


class _Own(msgspec.Struct):
    """The fields in the order of their encoding, with the bounds that are cheap to check."""

    client: str
    counter: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNTER)]
    message: str
    sent_at: datetime


_encode = msgspec.json.Encoder().encode
_decode_own = msgspec.json.Decoder(_Own).decode
_new = object.__new__
# Request is frozen: these are the setters that object.__setattr__() ends up calling.
_set_client, _set_counter, _set_message, _set_sent_at = (
    getattr(Request, field).__set__ for field in ("client", "counter", "message", "sent_at")
)
_is_client = _CLIENT.fullmatch


def _read_own(body: bytes) -> Request | None:
    """Return the request if the body is exactly what encode() writes, None otherwise."""
    try:
        own = _decode_own(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    client, message, sent_at = own.client, own.message, own.sent_at
    # Comparing a naive time with an aware one would raise.
    if not _is_client(client) or sent_at.tzinfo is not UTC or sent_at < _EPOCH:
        return None
    # A message cannot be longer than the body that contains it.
    if len(body) > MAX_MESSAGE_BYTES and len(message.encode()) > MAX_MESSAGE_BYTES:
        return None
    if _encode(own) != body:
        return None
    # Everything is checked: construct it without checking again.
    request = _new(Request)
    _set_client(request, client)
    _set_counter(request, own.counter)
    _set_message(request, message)
    _set_sent_at(request, sent_at)
    return request


def _are_own(properties: bytes, request: Request) -> bool:
    """Whether these are the properties that the producer sets for this request, at any time."""
    identity = f"{request.client}/{request.counter}".encode()
    size = len(identity)
    end = _ID + size
    return (
        len(properties) == end + _TIMESTAMP_AND_REST
        and properties[_ID - 1] == size
        and properties[_ID:end] == identity
        and properties.startswith(_BEFORE_ID)
        and properties.endswith(_AFTER_TIMESTAMP)
    )


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise InvalidRequest("sent_at", "must be a string")
    if not _SENT_AT.fullmatch(value):
        raise InvalidRequest("sent_at", "must look like 2026-01-31T23:59:59.123456Z")
    try:
        # The trailing Z is read as UTC.
        return datetime.fromisoformat(value)
    except ValueError:
        raise InvalidRequest("sent_at", "is not a date") from None


def _agree(request: Request, properties: BasicProperties) -> None:
    """Check that the properties do not contradict the body. They may be absent."""
    expected = (
        ("content_type", CONTENT_TYPE),
        ("content_encoding", "utf-8"),
        ("type", TYPE),
        ("message_id", request.message_id),
    )
    for name, value in expected:
        found = getattr(properties, name)
        if found is not None and found != value:
            raise InvalidRequest(name, f"is {str(found)[:80]!a}, not {value!a}")
