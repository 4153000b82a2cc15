"""Checks that a queue is old enough to publish to, and is never silently recreated."""

from __future__ import annotations

from collections.abc import Callable

from turnwise.broker import Broker
from turnwise.founding import Unsure
from turnwise.topology import QueueMissing, Topology

CREATION_PAUSE = 1.0
"""Seconds to wait before publishing to a queue that may just have been created, by any process.

A single node takes up to 500 ms to write a new quorum queue to disk. If it is killed before that,
it comes back without the messages that it had confirmed."""


class Acquaintance:
    """Remembers that a queue has confirmed a publish. Recreating it then would hide a loss.

    ``recall()`` returns the name of the cluster that confirmed it, or None; ``keep(name)`` stores
    the name.
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
        """Make sure that the queue exists and is old enough.

        Raises QueueMissing if it is gone although it has confirmed a publish. Otherwise raises
        what Topology.declare raises.
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
        """Record that a publish was confirmed."""
        if self._kept is None:
            self._kept = broker.cluster
            self._keep(broker.cluster)
