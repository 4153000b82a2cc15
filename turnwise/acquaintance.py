"""Whom a process sends to: the cluster it knows, and a queue that is old enough to be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from turnwise.broker import Broker
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.topology import QueueMissing, Topology

CREATION_PAUSE = 1.0
"""Seconds until a queue that may just have been made, by whomever, is published to.

A single node writes the existence of a new quorum queue down after up to 500 ms; killed before that
it comes back without what it had confirmed."""


class Acquaintance:
    """Remembers in which cluster something was confirmed first, and is wary of any other one.

    A node that lost its disk comes back as a cluster of its own until it has joined again. It may
    have the same users and queues, and confirms what it takes; when it joins, that is wiped.

    ``recall()`` returns the name that was kept, and ``keep(name)`` keeps one. What AMQP_URL names
    (?cluster=) goes before that.
    """

    def __init__(
        self,
        topology: Topology,
        recall: Callable[[], str | None],
        keep: Callable[[str], None],
    ) -> None:
        self._topology = topology
        self._keep = keep
        self._kept = recall()
        self._fresh = False

    def connect(self, loop: Loop, nodes: Sequence[Node], connection_name: str) -> Broker:
        """Connect to a node of the cluster. As Broker.connect."""
        return Broker.connect(loop, nodes, connection_name, self._kept)

    def meet(self, broker: Broker) -> None:
        """Make sure that the queue is there, and old enough.

        Raises QueueMissing if it is gone from a cluster that had confirmed something in it: whoever
        made it again would hide the loss. Otherwise as Topology.declare.
        """
        known = self._kept == broker.cluster
        try:
            self._topology.declare(broker, make=not known)
        except QueueMissing:
            self._fresh = True
            raise
        if not known or self._fresh:
            broker.sleep(CREATION_PAUSE)
            self._fresh = False

    def confirmed(self, broker: Broker) -> None:
        """Note that a publish was confirmed: now the cluster is known."""
        if self._kept != broker.cluster:
            self._kept = broker.cluster
            self._keep(broker.cluster)
