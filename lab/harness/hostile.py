"""Endless messages that are not requests, as bugs, other programs and malice publish them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from pika import BasicProperties

from turnwise.message import Request

CLIENT = "hostile"
"""The client of any such message that were mistaken for a request."""

_BLOB = 120 * 1024
_BLOBS = 0.02
"""The share of messages larger than a request; RabbitMQ would refuse much larger ones."""

_WRONG_VALUES: dict[str, list[Any]] = {
    "client": ["", "a b", "a/b", "c" * 65, "ü", "a\n", 7, None, [], {}, True],
    "counter": [0, -1, 2**63, 10**4000, 1.0, "1", True, None, [1], {}],
    "message": [7, None, [], {"text": "a"}, False, "\ud800", "m" * (16 * 1024 + 1)],
    "sent_at": ["", "now", "2026-02-30T00:00:00Z", "2026-01-31T24:00:00Z", 0, None, [], {}],
}
_RAW_NUMBERS = ("NaN", "Infinity", "-0", "1e3", "1e999", "9" * 5000, "0x10", "01")
_WRONG_PROPERTIES: dict[str, list[str]] = {
    "content_type": ["text/plain", "application/xml", ""],
    "content_encoding": ["gzip", "utf-16"],
    "type": ["event", ""],
    "message_id": ["", "other/1", f"{CLIENT}/0"],
}
_HEADERS: list[dict[str, Any]] = [
    {},
    {"x-death": [{"count": 2**62, "reason": "rejected", "queue": "requests"}]},
    {"x-delivery-count": 2**31 - 1},
    {"CC": ["requests"]},
    {"deep": {"a": {"b": {"c": [1, [2, [3]]]}}}, "binary": b"\x00\xff", "none": None},
]


def hostile(dice: random.Random) -> Iterator[tuple[bytes, BasicProperties]]:
    """Yield bodies and their properties, one kind after another; the same for the same dice."""
    kinds: list[Callable[[random.Random, bytes], bytes]] = [
        _noise, _flipped, _cut, _doubled, _nested, _wrong_value, _raw_number, _other_fields,
    ]  # fmt: skip
    counter = 0
    while True:
        counter += 1
        request = Request(CLIENT, counter, f"message {counter}", datetime.now(UTC))
        headers = dice.choice(_HEADERS)
        if dice.random() < _BLOBS:
            yield dice.randbytes(_BLOB), BasicProperties(headers=headers)
        elif dice.random() < 1 / (len(kinds) + 1):
            name = dice.choice(list(_WRONG_PROPERTIES))
            wrong = {name: dice.choice(_WRONG_PROPERTIES[name])}
            yield request.encode(), BasicProperties(headers=headers, **wrong)
        else:
            yield dice.choice(kinds)(dice, request.encode()), BasicProperties(headers=headers)


def _noise(dice: random.Random, _valid: bytes) -> bytes:
    return dice.randbytes(dice.randrange(300))


def _flipped(dice: random.Random, valid: bytes) -> bytes:
    """Flip the highest bit of one byte: no other flip makes every text invalid."""
    place = dice.randrange(len(valid))
    return valid[:place] + bytes([valid[place] ^ 0x80]) + valid[place + 1 :]


def _cut(dice: random.Random, valid: bytes) -> bytes:
    return valid[: dice.randrange(len(valid))]


def _doubled(_dice: random.Random, valid: bytes) -> bytes:
    return valid + valid


def _nested(dice: random.Random, _valid: bytes) -> bytes:
    opening, closing = dice.choice([(b"[", b"]"), (b'{"a":', b"}")])
    depth = dice.choice([10, 1000, 10_000])
    return opening * depth + b"1" + dice.choice([b"", closing * depth])


def _wrong_value(dice: random.Random, valid: bytes) -> bytes:
    field = dice.choice(list(_WRONG_VALUES))
    return json.dumps(json.loads(valid) | {field: dice.choice(_WRONG_VALUES[field])}).encode()


def _raw_number(dice: random.Random, valid: bytes) -> bytes:
    text = json.dumps(json.loads(valid) | {"counter": "@"})
    return text.replace('"@"', dice.choice(_RAW_NUMBERS)).encode()


def _other_fields(dice: random.Random, valid: bytes) -> bytes:
    fields = json.loads(valid)
    chosen = dice.choice(list(fields))
    change = dice.randrange(3)
    if change == 0:
        del fields[chosen]
    elif change == 1:
        fields[chosen.upper()] = fields.pop(chosen)
    else:
        twice = json.dumps({chosen: fields[chosen]})[1:-1]
        return json.dumps(fields)[:-1].encode() + f", {twice}}}".encode()
    return json.dumps(fields).encode()
