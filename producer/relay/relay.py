"""The relay process: connected to both servers, it stands by until it can take over."""

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
"""Seconds without a renewal by the active relay, after which another takes over.

Measured with the standby's monotonic clock. A wrong clock does no harm: the epoch fences writes."""

STOP_GRACE = 5.0
"""Seconds to wait for the numbered requests to be confirmed, once asked to stop."""

STOP_BUDGET = STOP_GRACE + 3 * TIMEOUT + 2 * CLOSE_TIMEOUT
"""Seconds from SIGTERM to exit, at worst: the database is slow to finish the current write, then to
delete the confirmed rows, then to release the lease; then a hung broker does not answer the close
of the channel and of the connection."""

WATCH = 1.0
"""Seconds between two checks of the active relay."""


class Relay:
    """Works or stands by, until the loop is asked to stop."""

    def __init__(self, loop: Loop, nodes: Sequence[Node], ledger: Ledger) -> None:
        self.vitals = Vitals()
        self._loop = loop
        self._nodes = nodes
        self._ledger = ledger
        self._epoch = 0  # the last epoch of this relay
        self._outages = {name: Outage(log, name) for name in self.vitals.lost}

    def run(self) -> None:
        """Run until asked to stop. Raises Permanent when an operator must act."""
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
        """Wait until this relay becomes the active one."""
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
            # If the epoch is still this relay's own, no other relay has taken over since.
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
                shift.close()  # the connection stays in use
                raise
        except TakenOver:
            event(log, logging.WARNING, "relay.taken_over", epoch=charge.epoch)
            raise
        except LedgerAway:
            raise
        except (Transient, Permanent):
            # Another relay may be able to reach RabbitMQ.
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
