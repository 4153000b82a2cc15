"""Before a queue is made: whether another node has it.

A node that lost its disk and has not joined its cluster again knows nothing of the queue. Were the
queue made there, publishes would be confirmed and wiped when the node joins.
"""

from __future__ import annotations

from collections.abc import Callable

from turnwise.broker import Broker
from turnwise.errors import Transient


class Elsewhere(Transient):
    """Another node has the queue: the one that is connected to does not belong to its cluster."""


class Unsure(Transient):
    """Another node, which may have the queue, does not say."""


def ensure_nowhere(broker: Broker, queue: str, has: Callable[[Broker], bool]) -> None:
    """Ask each other node of AMQP_URL. Raises Elsewhere if one has it, Unsure if one cannot say.

    A quorum queue that is made before a node has joined lacks a member there, too.
    """
    for node, met in broker.meet_others():
        if isinstance(met, Broker):
            with met as other:
                found = has(other)
            if found:
                raise Elsewhere(
                    f"{broker.node} has no queue {queue!r}, and {node} has: the former does not "
                    "belong to the cluster. Its data may be lost: have it join again before it "
                    "takes clients (docs/operations.md)"
                )
        elif isinstance(met, Transient):
            # A node that lets us in for no queue at all has none of ours.
            raise Unsure(
                f"{broker.node} has no queue {queue!r}, and whether {node} has it cannot be seen: "
                f"{met}. The queue is made once each node of AMQP_URL says that it has none; take "
                "a node that is gone for good out of AMQP_URL"
            )
