"""Whom a process sends to: a queue that is old enough to be trusted, and is not made anew."""

from __future__ import annotations

from collections.abc import Callable

from turnwise.broker import Broker
from turnwise.founding import Unsure
from turnwise.topology import QueueMissing, Topology

CREATION_PAUSE = 1.0
"""Seconds until a queue that may just have been made, by whomever, is published to.

A single node writes the existence of a new quorum queue down after up to 500 ms; killed before that
it comes back without what it had confirmed."""


class Acquaintance:
    """Remembers that something was confirmed in a queue. Whoever made it again would hide a loss.

    ``recall()`` returns the cluster in which that was, and ``keep(name)`` keeps it.
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

    def meet(self, broker: Broker) -> None:
        """Make sure that the queue is there, and old enough.

        Raises QueueMissing if it is gone, though something was confirmed in it. Otherwise as
        Topology.declare.
        """
        known = self._kept is not None
        try:
            self._topology.declare(broker, make=not known)
        except (QueueMissing, Unsure):
            self._fresh = True
            raise
        if not known or self._fresh:
            broker.sleep(CREATION_PAUSE)
            self._fresh = False

    def confirmed(self, broker: Broker) -> None:
        """Note that a publish was confirmed."""
        if self._kept is None:
            self._kept = broker.cluster
            self._keep(broker.cluster)
