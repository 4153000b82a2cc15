"""Publishes one queue's line, with back-off while the queue accepts nothing.

A queue that is missing, full or forbidden keeps only its own requests waiting, since any
application may name any queue.
"""

from __future__ import annotations

import logging
import time

from producer.publisher import Publisher
from producer.relay.ledger import LedgerAway
from producer.relay.line import Line
from turnwise.acquaintance import CREATION_PAUSE
from turnwise.broker import Broker, Unanswered
from turnwise.errors import Permanent, Transient
from turnwise.founding import Elsewhere, Unsure
from turnwise.log import event
from turnwise.topology import QueueMissing, Topology

log = logging.getLogger(__name__)

FIRST_WAIT = 1.0
LONGEST_WAIT = 10.0
"""Seconds between tries at a queue that accepts nothing."""

PATIENCE = 5.0
"""Seconds to wait for each answer about a queue. Few, since the other queues wait meanwhile."""


class Outlet:
    """Publishes one line on a channel of its own.

    Raises only when the connection ends or hangs, when the connected node turns out not to belong
    to the cluster, or when the lease could not be renewed meanwhile (LedgerAway, TakenOver).
    """

    def __init__(self, broker: Broker, line: Line, cluster: str | None = None) -> None:
        """``cluster`` is the cluster that has confirmed a publish to this queue before, if any."""
        self.line = line
        self.cluster = cluster
        self.trouble: str | None = None
        """Why the queue accepts nothing; None if it does."""
        self._broker = broker
        self._publisher: Publisher | None = None
        # Wait before publishing to a queue that may be new: its node may still forget it.
        self._ripe = self._known
        self._try_at = 0.0
        self._wait = FIRST_WAIT

    @property
    def _known(self) -> bool:
        return self.cluster is not None

    @property
    def open(self) -> bool:
        """Whether it holds a channel."""
        return self._publisher is not None

    @property
    def in_flight(self) -> int:
        """The number of requests that are published and not confirmed."""
        return self._publisher.in_flight if self._publisher else 0

    def publish(self) -> int:
        """Publish what there is room for; return the number of requests."""
        if time.monotonic() < self._try_at or not (self.line or self.trouble):
            return 0
        try:
            if self._publisher is None:
                topology = Topology(self.line.queue)
                # Recreating a queue that has confirmed a publish would hide the loss.
                topology.declare(self._broker, make=not self._known, patience=PATIENCE)
                if not self._ripe:
                    # The other queues continue meanwhile.
                    self._ripe = True
                    self._try_at = time.monotonic() + CREATION_PAUSE
                    return 0
                self._publisher = Publisher(self._broker, topology, self.line)
                if not self.line:
                    self._recover()
            return self._publisher.publish()
        except (Elsewhere, LedgerAway):
            raise  # the node is unfit for every queue, or the lease could not be renewed
        except (Transient, Permanent) as error:
            self._ripe = self._ripe and not isinstance(error, QueueMissing | Unsure)
            self._fail(error)
            return 0

    def begin_anew(self) -> None:
        """Publish again from the lowest number: requests were added below those published."""
        self.close()

    def settle(self) -> bool:
        """Forget the confirmed requests; return whether there were any."""
        if self._publisher is None:
            return False
        try:
            settled = self._publisher.settle()
        except LedgerAway:
            raise
        except (Transient, Permanent) as error:
            self._fail(error)
            return False
        if settled:
            self.cluster = self._broker.cluster
            self._recover()
        return settled

    def close(self) -> None:
        """Stop publishing. Requests in flight will be published again by this relay or another."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def _fail(self, error: Transient | Permanent) -> None:
        self._broker.check()
        if isinstance(error, Unanswered):
            # Is it the queue or the node? A healthy node can open a channel.
            self._broker.channel(PATIENCE).close()
        if str(error) != self.trouble:
            event(log, logging.WARNING, "queue.stuck", queue=self.line.queue, error=error)
        self.trouble = str(error)
        self._try_at = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        self.close()

    def _recover(self) -> None:
        if self.trouble:
            event(log, logging.INFO, "queue.free", queue=self.line.queue)
        self.trouble = None
        self._wait = FIRST_WAIT
