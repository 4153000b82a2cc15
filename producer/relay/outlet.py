"""The way out for one queue's line: a publisher, and patience when the queue takes nothing.

A queue that is missing, full or not ours to publish to keeps its own requests waiting, and nobody
else's: which queue is meant, any application may say.
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
"""Seconds from one try to the next at a queue that takes nothing."""

PATIENCE = 5.0
"""Seconds for each answer about a queue. The others wait meanwhile, so that it is not many."""


class Outlet:
    """Publishes one line on a channel of its own. Raises only when the connection ends or hangs.

    Or when its node turns out to be a stranger to its cluster.
    """

    def __init__(self, broker: Broker, line: Line, cluster: str | None = None) -> None:
        """``cluster`` is the one that has confirmed something in this queue before."""
        self.line = line
        self.cluster = cluster
        self.trouble: str | None = None
        """Why the queue takes nothing; None if it does."""
        self._broker = broker
        self._publisher: Publisher | None = None
        # A queue that may just have been made, by whomever, is given time: its node may forget it.
        self._ripe = self._known
        self._try_at = 0.0
        self._wait = FIRST_WAIT

    @property
    def _known(self) -> bool:
        return self.cluster is not None

    @property
    def in_flight(self) -> int:
        """How many requests are published and not confirmed."""
        return self._publisher.in_flight if self._publisher else 0

    def publish(self) -> int:
        """Publish what there is room for; return how many requests."""
        if time.monotonic() < self._try_at or not (self.line or self.trouble):
            return 0
        try:
            if self._publisher is None:
                topology = Topology(self.line.queue)
                # Gone from where it has confirmed something: to make it again would hide the loss.
                topology.declare(self._broker, make=not self._known, patience=PATIENCE)
                if not self._ripe:
                    # The other queues go on meanwhile.
                    self._ripe = True
                    self._try_at = time.monotonic() + CREATION_PAUSE
                    return 0
                self._publisher = Publisher(self._broker, topology, self.line)
                if not self.line:
                    self._recover()
            return self._publisher.publish()
        except (Elsewhere, LedgerAway):
            raise  # this is no place for any queue; or no sign of life was possible meanwhile
        except (Transient, Permanent) as error:
            self._ripe = self._ripe and not isinstance(error, QueueMissing | Unsure)
            self._fail(error)
            return 0

    def begin_anew(self) -> None:
        """Publish from the lowest number on: something was added below what is published."""
        self.close()

    def settle(self) -> bool:
        """Have the line forget what was confirmed; whether there was any."""
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
        """Stop publishing. What is in flight will be published again, by whoever goes on."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def _fail(self, error: Transient | Permanent) -> None:
        self._broker.check()
        if isinstance(error, Unanswered):
            # Is it the queue, or the node? Any node that is there opens a channel.
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
