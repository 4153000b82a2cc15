"""Which messages, on which brokers, a worker dead-letters itself."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from pika import BasicProperties

from worker.apart import is_hostile, is_needed

NOTE: dict[str, Any] = {
    "count": 1,
    "reason": "rejected",
    "queue": "requests",
    "time": datetime(2026, 1, 31, tzinfo=UTC),
    "exchange": "requests",
    "routing-keys": ["requests"],
}


@pytest.mark.parametrize("version", ["3.10.8", "3.13.7", "", "unknown"])
def test_an_old_or_unknown_broker_is_spared_a_forged_header(version: str) -> None:
    assert is_needed(version)


@pytest.mark.parametrize("version", ["4.0.0", "4.3.6", "4.1.0-rc.1", "10.0.1"])
def test_a_newer_broker_dead_letters_it_as_any_other(version: str) -> None:
    assert not is_needed(version)


def with_death(death: object) -> bytes:
    return b"".join(BasicProperties(headers={"x-death": death}).encode())


def with_count(kind: bytes, encoded: bytes) -> bytes:
    """Properties of a note whose count has a kind that pika does not write."""
    note = b"\x05count" + kind + encoded
    deaths = b"F" + len(note).to_bytes(4) + note
    headers = b"\x07x-deathA" + len(deaths).to_bytes(4) + deaths
    return BasicProperties.FLAG_HEADERS.to_bytes(2) + len(headers).to_bytes(4) + headers


@pytest.mark.parametrize("death", [[], [NOTE], [NOTE, NOTE | {"queue": "other"}], [{}]])
def test_a_note_of_rabbitmqs_own_form_is_left_to_it(death: object) -> None:
    assert not is_hostile(with_death(death))


@pytest.mark.parametrize("count", [1, 2**31, 2**63 - 1])
def test_a_count_may_have_64_bits(count: int) -> None:
    # RabbitMQ writes all counts so, pika only those that do not fit into 32 bits.
    assert not is_hostile(with_count(b"l", struct.pack(">q", count)))


@pytest.mark.parametrize(("kind", "size"), [(b"f", 4), (b"d", 8)])
def test_a_count_with_a_fraction_is_hostile(kind: bytes, size: int) -> None:
    fraction = struct.pack(">f" if size == 4 else ">d", 1.5)
    assert is_hostile(with_count(kind, fraction))


@pytest.mark.parametrize(
    "death",
    [
        1, "text", {}, NOTE, [1], ["text"], [[NOTE]],
        *([NOTE | {name: wrong}] for name, wrong in [
            ("count", "1"), ("count", True), ("count", None), ("reason", 1),
            ("queue", 1), ("exchange", ["requests"]), ("time", 1), ("time", "now"),
            ("routing-keys", "requests"), ("routing-keys", [1]),
        ]),
    ],
)  # fmt: skip
def test_any_other_form_is_hostile(death: object) -> None:
    assert is_hostile(with_death(death))


def test_a_message_without_a_death_is_not_hostile() -> None:
    assert not is_hostile(b"")
    assert not is_hostile(b"".join(BasicProperties(headers={"x": "y"}).encode()))
