"""The dead letters: why each is one, and how to send it back or away."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pika import BasicProperties, frame, spec

from turnwise.broker import Broker
from turnwise.errors import InvalidRequest, Permanent, Transient
from turnwise.message import Request
from turnwise.topology import DELIVERY_LIMIT, NOT_FOUND, Topology
from worker.settle import CONFLICT, INVALID

PREVIEW = 200
"""Bytes of a body that are shown."""

_BROKERS_HEADERS = (
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
)


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the dead-letter queue. ``id`` is made of its content."""

    tag: int
    id: str
    message_id: str | None
    reason: str
    detail: str
    died_at: datetime | None
    body: bytes
    properties: BasicProperties

    @property
    def preview(self) -> str:
        """The begin of the body, safe to print."""
        text = self.body[:PREVIEW].decode(errors="backslashreplace")
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        return shown + ("..." if len(self.body) > PREVIEW else "")


class DeadLetters:
    """Looks at the dead-letter queue. What is not settled goes back to its place on ``close``."""

    def __init__(self, broker: Broker, topology: Topology) -> None:
        self._broker = broker
        self._topology = topology
        self._channel = broker.channel()
        self._answers: list[Letter | None] = []
        self._returned = False
        self._confirms: list[bool] = []
        raw = self._channel.raw
        raw.add_callback(
            lambda _: self._answers.append(None), [spec.Basic.GetEmpty], one_shot=False
        )
        raw.add_on_return_callback(self._on_return)
        self._channel.call(raw.confirm_delivery, ack_nack_callback=self._on_confirm)

    def __iter__(self) -> Iterator[Letter]:
        """Take those that are there now, each in hand until it is settled or ``close`` is called.

        Not more: a letter that is replayed may come back at once.
        """
        try:
            there = self._channel.call(
                self._channel.raw.queue_declare, queue=self._topology.dead, passive=True
            ).message_count
        except Transient as error:
            if error.code != NOT_FOUND:
                raise
            raise Permanent(
                f"{self._broker.node} has no queue {self._topology.dead!r}: check --queue and the "
                "virtual host; the queue is made when the first worker starts",
                code=error.code,
            ) from None
        for _ in range(there):
            letter = self._next()
            if letter is None:
                return
            yield letter

    def drop(self, letter: Letter) -> None:
        """Remove a letter for good."""
        self._channel.raw.basic_ack(letter.tag)

    def replay(self, letter: Letter) -> None:
        """Publish a letter to the queue it came from, and remove it here once that is confirmed.

        Raises Transient when the broker does not take it; then it stays here.
        """
        properties = letter.properties
        properties.headers = {
            name: value
            for name, value in (properties.headers or {}).items()
            if not name.startswith(_BROKERS_HEADERS)
        }
        self._channel.raw.basic_publish(
            exchange=self._topology.exchange,
            routing_key=self._topology.queue,
            body=letter.body,
            properties=properties,
            mandatory=True,
        )
        self._channel.wait(lambda: self._confirms)
        taken, self._returned = self._confirms.pop() and not self._returned, False
        if not taken:
            raise Transient(
                f"{self._broker.node} does not take {letter.id} back into "
                f"{self._topology.queue!r}; it stays a dead letter"
            )
        self.drop(letter)

    def close(self) -> None:
        """Settle what was dropped, and give the rest back in order."""
        self._channel.close()

    def _next(self) -> Letter | None:
        self._channel.raw.basic_get(self._topology.dead, callback=self._on_message)
        self._channel.wait(lambda: self._answers)
        return self._answers.pop()

    def _on_message(
        self, _channel: object, method: spec.Basic.GetOk, properties: BasicProperties, body: bytes
    ) -> None:
        self._answers.append(_letter(method.delivery_tag, properties, body))

    def _on_confirm(self, method: frame.Method[Any]) -> None:
        self._confirms.append(isinstance(method.method, spec.Basic.Ack))

    def _on_return(self, *_: object) -> None:
        # Comes before the ack, which then confirms nothing.
        self._returned = True


def explain(body: bytes, properties: BasicProperties) -> tuple[str, str]:
    """Say why a message was dead-lettered: a word, and a sentence. Pure.

    The broker notes that it was rejected, not why; but a worker rejects for two reasons only, and
    one of them can be seen again by decoding.
    """
    death = _first_death(properties)
    if death.get("reason") == "delivery_limit":
        return "delivery_limit", (
            f"delivered more than {DELIVERY_LIMIT} times without an ack: it may end its worker"
        )
    if death.get("reason") not in {"rejected", None}:
        return str(death["reason"]), "the broker removed it from its queue"
    try:
        Request.decode(body, properties)
    except InvalidRequest as error:
        return INVALID, str(error)
    return CONFLICT, "another request with this identity is stored"


def _first_death(properties: BasicProperties) -> dict[str, Any]:
    deaths = (properties.headers or {}).get("x-death")
    return deaths[-1] if isinstance(deaths, list) and deaths else {}


def _letter(tag: int, properties: BasicProperties, body: bytes) -> Letter:
    reason, detail = explain(body, properties)
    died_at = _first_death(properties).get("time")
    return Letter(
        tag=tag,
        id=hashlib.sha256(body + (properties.message_id or "").encode()).hexdigest()[:12],
        message_id=properties.message_id,
        reason=reason,
        detail=detail,
        died_at=died_at.replace(tzinfo=UTC) if isinstance(died_at, datetime) else None,
        body=body,
        properties=properties,
    )
