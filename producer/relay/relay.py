"""A relay's life: connected to both servers it stands by; when its turn comes, it works."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from producer.relay.ledger import Charge, Ledger, LedgerAway, State, TakenOver
from producer.relay.shift import Shift
from producer.relay.vitals import Vitals
from turnwise.broker import CLOSE_TIMEOUT, Broker
from turnwise.database import TIMEOUT
from turnwise.errors import Permanent, Stopped, Transient
from turnwise.log import Outage, event
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.retry import persist

log = logging.getLogger(__name__)

LEASE = 5.0
"""Seconds without a sign of life from the relay at work, after which another takes over.

By the clock of the one that stands by, which cannot be set; and if it is wrong, no harm is done."""

STOP_GRACE = 5.0
"""Seconds for what is numbered to be confirmed, once asked to stop."""

STOP_BUDGET = STOP_GRACE + 3 * TIMEOUT + 2 * CLOSE_TIMEOUT
"""Seconds from SIGTERM to the end at worst: the database takes its time for what is being written,
then to remove what was confirmed, then to let another relay begin; then a hung broker does not
answer the goodbye of channel and connection."""

WATCH = 1.0
"""Seconds from one look at the relay at work to the next."""


class Relay:
    """Works or stands by, until the loop is asked to stop."""

    def __init__(self, loop: Loop, nodes: Sequence[Node], ledger: Ledger) -> None:
        self.vitals = Vitals()
        self._loop = loop
        self._nodes = nodes
        self._ledger = ledger
        self._epoch = 0  # the last one that was this relay's
        self._outages = {name: Outage(log, name) for name in self.vitals.lost}

    def run(self) -> None:
        """Relay. Raises Permanent when somebody has to act."""
        event(log, logging.INFO, "relay.started", relay=self._ledger.name)
        try:
            persist(self._session, sleep=self._sleep, on_failure=self._lost)
        except Stopped:
            pass
        finally:
            self._ledger.close()
        event(log, logging.INFO, "relay.stopped", confirmed=self.vitals.confirmed)

    def _session(self, progress: Callable[[], None]) -> None:
        name = f"producer relay {self._ledger.name}"
        self._ledger.close()  # its server waits for SILENCE at most
        with Broker.connect(self._loop, self._nodes, name) as broker:
            self._outages["broker"].over()
            try:
                while not self._loop.asked:
                    charge = self._stand_by(broker)
                    with contextlib.suppress(TakenOver):
                        self._work(broker, charge, progress)
            finally:
                self.vitals.connected = False

    def _stand_by(self, broker: Broker) -> Charge:
        """Return when it is this relay's turn."""
        seen: State | None = None
        since = 0.0
        while True:
            state = self._ledger.state()
            if seen is None:
                self._outages["database"].over()
                self.vitals.connected = True
                event(log, logging.INFO, "relay.standing_by", at_work=state.holder)
            if state != seen:
                seen, since = state, time.monotonic()
            # An epoch that was this relay's own: nobody has taken over since.
            mine = state.epoch == self._epoch
            if (mine or state.holder is None or time.monotonic() - since > LEASE) and (
                charge := self._ledger.acquire(state)
            ):
                self._epoch = charge.epoch
                return charge
            broker.wait(lambda: self._loop.asked, WATCH)
            if self._loop.asked:
                raise Stopped

    def _work(self, broker: Broker, charge: Charge, progress: Callable[[], None]) -> None:
        event(log, logging.INFO, "relay.working", epoch=charge.epoch, batches=len(charge.batches))
        self.vitals.shifts += 1
        self.vitals.at_work = True
        try:
            shift = Shift(broker, self._ledger, charge, self.vitals)
            try:
                shift.run(progress)
            except TakenOver:
                shift.close()  # the connection is used again
                raise
        except TakenOver:
            event(log, logging.WARNING, "relay.taken_over", epoch=charge.epoch)
            raise
        except LedgerAway:
            raise
        except (Transient, Permanent):
            # Another relay may have more luck with RabbitMQ.
            with contextlib.suppress(Transient, Permanent):
                self._ledger.release(charge.epoch)
            raise
        finally:
            self.vitals.at_work = False
        self._ledger.release(charge.epoch)

    def _sleep(self, seconds: float) -> None:
        self._loop.wait(lambda: self._loop.asked, seconds)
        if self._loop.asked:
            raise Stopped

    def _lost(self, error: Transient, wait: float) -> None:
        server = "database" if isinstance(error, LedgerAway) else "broker"
        self.vitals.lost[server] += 1
        self._outages[server].failed(error, wait)
