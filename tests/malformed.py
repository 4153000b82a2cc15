"""Malformed bodies: a name, the body, and the field that the error must name."""

from __future__ import annotations

import json
from typing import Any

VALID: dict[str, Any] = {
    "client": "client",
    "counter": 7,
    "message": "hello",
    "sent_at": "2026-01-31T23:59:59.123456Z",
}


def _with(**fields: object) -> bytes:
    return json.dumps(VALID | fields).encode()


def _without(field: str) -> bytes:
    return json.dumps({k: v for k, v in VALID.items() if k != field}).encode()


def _raw(field: str, text: str) -> bytes:
    """The valid body with a field's value replaced by raw JSON text."""
    return json.dumps(VALID | {field: "@"}).replace('"@"', text).encode()


MALFORMED: list[tuple[str, bytes, str]] = [
    ("empty", b"", "body"),
    ("blank", b"  \n", "body"),
    ("text", b"hello", "body"),
    ("cut short", json.dumps(VALID).encode()[:-1], "body"),
    ("more behind", json.dumps(VALID).encode() + b"{}", "body"),
    ("two documents", json.dumps(VALID).encode() + b"\n" + json.dumps(VALID).encode(), "body"),
    ("null", b"null", "body"),
    ("a list", b"[1, 2]", "body"),
    ("a number", b"7", "body"),
    ("a string", b'"client"', "body"),
    ("an empty object", b"{}", "client"),
    ("not UTF-8", b'{"client": "\xff"}', "body"),
    ("UTF-16", json.dumps(VALID).encode("utf-16"), "body"),
    ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(VALID).encode(), "body"),
    ("an overlong encoding", b'{"client": "\xc0\xaf"}', "body"),
    ("NaN", _raw("counter", "NaN"), "body"),
    ("Infinity", _raw("counter", "-Infinity"), "body"),
    ("nested too deeply", b"[" * 100_000, "body"),
    ("a number of 5,000 digits", _raw("counter", "9" * 5000), "body"),
    ("too large", b" " * 120_000, "body"),
    ("single quotes", str(VALID).encode(), "body"),
    ("a comment", json.dumps(VALID).encode() + b" // hello", "body"),
    ("a field twice", b'{"client": "a", "client": "b"}', "body"),
    ("an unknown field", _with(priority=1), "body"),
    ("a field in capitals", json.dumps(VALID).replace("counter", "Counter").encode(), "counter"),
    *((f"no {field}", _without(field), field) for field in VALID),
    ("client: a number", _with(client=7), "client"),
    ("client: null", _with(client=None), "client"),
    ("client: empty", _with(client=""), "client"),
    ("client: too long", _with(client="c" * 65), "client"),
    ("client: a space", _with(client="my client"), "client"),
    ("client: a slash", _with(client="my/client"), "client"),
    ("client: a line end behind", _with(client="client\n"), "client"),
    ("client: other digits", _with(client="client٣"), "client"),
    ("counter: a string", _with(counter="7"), "counter"),
    ("counter: a bool", _with(counter=True), "counter"),
    ("counter: a fraction", _with(counter=7.5), "counter"),
    ("counter: a whole float", _with(counter=7.0), "counter"),
    ("counter: an exponent", _raw("counter", "7e0"), "counter"),
    ("counter: null", _with(counter=None), "counter"),
    ("counter: zero", _with(counter=0), "counter"),
    ("counter: minus zero", _raw("counter", "-0"), "counter"),
    ("counter: negative", _with(counter=-7), "counter"),
    ("counter: 2^63", _with(counter=2**63), "counter"),
    ("counter: a list", _with(counter=[7]), "counter"),
    ("message: a number", _with(message=7), "message"),
    ("message: null", _with(message=None), "message"),
    ("message: an object", _with(message={"text": "hello"}), "message"),
    ("message: a lone surrogate", _raw("message", '"\\ud800"'), "message"),
    ("message: too long", _with(message="m" * (16 * 1024 + 1)), "message"),
    ("message: too long in UTF-8", _with(message="é" * (8 * 1024 + 1)), "message"),
    ("sent_at: a number", _with(sent_at=1769903999), "sent_at"),
    ("sent_at: null", _with(sent_at=None), "sent_at"),
    ("sent_at: no time zone", _with(sent_at="2026-01-31T23:59:59"), "sent_at"),
    ("sent_at: another zone", _with(sent_at="2026-01-31T23:59:59+01:00"), "sent_at"),
    ("sent_at: no date", _with(sent_at="2026-02-30T00:00:00Z"), "sent_at"),
    ("sent_at: the 24th hour", _with(sent_at="2026-01-31T24:00:00Z"), "sent_at"),
    ("sent_at: a leap second", _with(sent_at="2026-06-30T23:59:60Z"), "sent_at"),
    ("sent_at: nanoseconds", _with(sent_at="2026-01-31T23:59:59.123456789Z"), "sent_at"),
    ("sent_at: a space", _with(sent_at="2026-01-31 23:59:59Z"), "sent_at"),
    ("sent_at: a week date", _with(sent_at="2026-W05-6T00:00:00Z"), "sent_at"),
    ("sent_at: before 1970", _with(sent_at="1969-12-31T23:59:59Z"), "sent_at"),
    ("sent_at: the year 0", _with(sent_at="0000-01-01T00:00:00Z"), "sent_at"),
]
