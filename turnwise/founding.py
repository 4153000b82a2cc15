"""Checks, before a queue is created, whether another node has it.

A node that lost its disk and has not rejoined its cluster does not know the queue. If the queue
were created there, its confirmed messages would be wiped when the node rejoins.
"""

from __future__ import annotations

from collections.abc import Callable

from turnwise.broker import Broker
from turnwise.errors import Transient


class Elsewhere(Transient):
    """Another node has the queue: the connected node does not belong to its cluster."""


class Unsure(Transient):
    """Another node may have the queue and cannot be asked."""


def ensure_nowhere(broker: Broker, queue: str, has: Callable[[Broker], bool]) -> None:
    """Ask each other node of AMQP_URL. Raises Elsewhere if one has it, Unsure if one is silent.

    Besides, a quorum queue that is created before a node has joined lacks a member on that node.
    """
    for node, met in broker.meet_others():
        if isinstance(met, Broker):
            with met as other:
                found = has(other)
            if found:
                raise Elsewhere(
                    f"{broker.node} has no queue {queue!r}, but {node} has: the former has left "
                    "the cluster, and may have lost its data. Have it join again before it accepts "
                    "clients (docs/operations.md)"
                )
        elif isinstance(met, Transient):
            # A node that refuses the connection for good has none of our queues.
            raise Unsure(
                f"{broker.node} has no queue {queue!r}, and {node} cannot be asked whether it has: "
                f"{met}. The queue is created once every node of AMQP_URL reports that it has "
                "none; remove a node that is gone for good from AMQP_URL"
            )
