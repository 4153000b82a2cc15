"""Decides what becomes of a delivery; the only place that acks or rejects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnwise.broker import Channel
from turnwise.errors import InvalidRequest
from turnwise.letter import CONFLICT, INVALID
from worker.store import Outcome


@dataclass(frozen=True, slots=True)
class Ack:
    """The outcome is in the database: the broker may forget the delivery."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The delivery can never be stored: the broker dead-letters it. ``reason`` is one of two."""

    reason: str
    detail: str


Verdict = Ack | Reject

ACK = Ack()


def decide(result: Outcome | InvalidRequest) -> Verdict:
    """Decide on one delivery. Pure and exhaustive: there is no other verdict, and no requeue."""
    match result:
        case Outcome.SERVED | Outcome.REPEATED | Outcome.FAILED:
            return ACK
        case Outcome.CONFLICT:
            return Reject(CONFLICT, "another request with this identity is stored")
        case InvalidRequest():
            return Reject(INVALID, str(result))


def settle(channel: Channel, verdicts: Sequence[tuple[int, Verdict]]) -> None:
    """Ack and dead-letter a batch: (delivery tag, verdict) in ascending order of the tags.

    All earlier deliveries must be settled already, since one ack covers every tag up to its own.
    The rejects go first, so that the ack does not cover them.
    """
    last_ack = None
    for tag, verdict in verdicts:
        if isinstance(verdict, Reject):
            channel.reject(tag)
        else:
            last_ack = tag
    if last_ack is not None:
        channel.ack(last_ack)
    channel.flush()
