"""What becomes of a delivery, and the one place that tells the broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnwise.broker import Channel
from turnwise.errors import InvalidRequest
from turnwise.letter import CONFLICT, INVALID
from worker.store import Outcome


@dataclass(frozen=True, slots=True)
class Ack:
    """It is in the database: the broker may forget it."""


@dataclass(frozen=True, slots=True)
class Reject:
    """It can never be: the broker keeps it apart. ``reason`` is one of a few words."""

    reason: str
    detail: str


Verdict = Ack | Reject

ACK = Ack()


def decide(result: Outcome | InvalidRequest) -> Verdict:
    """Decide on one delivery. Pure, and complete: there is no third way, and no requeue."""
    match result:
        case Outcome.SERVED | Outcome.REPEATED | Outcome.FAILED:
            return ACK
        case Outcome.CONFLICT:
            return Reject(CONFLICT, "another request with this identity is stored")
        case InvalidRequest():
            return Reject(INVALID, str(result))


def settle(channel: Channel, verdicts: Sequence[tuple[int, Verdict]]) -> None:
    """Ack and dead-letter a batch: (delivery tag, verdict) in ascending order of the tags.

    All that was delivered before the batch must be settled already: one ack covers all up to its
    tag. The rejects go first, so that it does not cover them.
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
