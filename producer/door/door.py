"""The running door: one thread speaks HTTP, this one AMQP. It keeps no state between runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from producer.door.application import Application
from producer.door.figures import Figures
from producer.door.listener import Listener, ListenError
from producer.door.pending import Pending
from producer.publisher import DRAIN_TIMEOUT, Publisher
from turnwise.acquaintance import Acquaintance
from turnwise.broker import CLOSE_TIMEOUT, Broker
from turnwise.errors import Stopped, Transient
from turnwise.log import Outage, event
from turnwise.loop import Loop
from turnwise.node import Node
from turnwise.retry import persist
from turnwise.topology import Topology

STOP_MARGIN = 3.0 + DRAIN_TIMEOUT + CLOSE_TIMEOUT
"""Seconds beyond --timeout from SIGTERM to exit, at worst: for uvicorn to notice, then for late
confirms, then for a broker that does not answer the close."""

log = logging.getLogger(__name__)


class Door:
    """Publishes each PUT and answers it once it is confirmed, until asked to stop."""

    def __init__(
        self,
        loop: Loop,
        nodes: Sequence[Node],
        topology: Topology,
        *,
        name: str,
        address: tuple[str, int],
        token: str | None,
        limit: int,
        timeout: float,
    ) -> None:
        """Bind ``address``, without accepting yet. Raises ListenError if that fails."""
        self._loop = loop
        self._nodes = nodes
        self._topology = topology
        # The door keeps no state between runs.
        self._acquaintance = Acquaintance(topology, lambda: None, lambda _: None)
        self._name = name
        self._timeout = timeout
        self._pending = Pending(loop, limit)
        self._figures = Figures(self._pending)
        hosts = {"localhost", "127.0.0.1", "::1", address[0]}
        application = Application(
            loop, self._pending, self._figures, token=token, hosts=hosts, timeout=timeout
        )
        self._listener = Listener(
            application, address, timeout, lambda: loop.add_callback(self._listener_ended)
        )
        self._figures.connections = lambda: self._listener.connections
        self._outage = Outage(log, "broker")
        self._stalled_since: float | None = None
        self._closing = False

    def run(self) -> None:
        """Serve until the loop is asked to stop. Raises Permanent when an operator must act."""
        self._listener.start()
        event(log, logging.INFO, "door.serving", url=self._listener.url)
        try:
            persist(self._session, sleep=self._loop.sleep, on_failure=self._lost)
        except Stopped:
            pass
        finally:
            self._closing = True
            self._pending.refuse("the door is closing")
            self._listener.stop()
            while self._listener.answers:
                self._loop.turn(1)
            self._listener.join()
            event(log, logging.INFO, "door.stopped")

    def _session(self, progress: Callable[[], None]) -> None:
        name = f"producer serve {self._name}"
        try:
            with Broker.connect(self._loop, self._nodes, name) as broker:
                self._acquaintance.meet(broker)
                # Ready is what can publish at once: not before its channel is open.
                publisher = Publisher(broker, self._topology, self._pending)
                self._outage.over()
                self._stalled_since = None
                self._pending.resume()

                def confirmed() -> None:
                    self._acquaintance.confirmed(broker)
                    progress()

                publisher.run(lambda: self._finished(broker), confirmed)
                publisher.drain()
        except Transient:
            # The host and its error are in the log: they are not for clients.
            self._pending.refuse("RabbitMQ cannot be reached, or has no queue for requests")
            raise

    def _finished(self, broker: Broker) -> bool:
        """Check, once a turn, whether requests can be published; return whether to stop."""
        obstacle = self._obstacle(broker)
        if obstacle is None:
            if self._pending.refusal is not None:
                self._pending.resume()
                event(log, logging.INFO, "door.resumed")
        elif self._pending.refusal is None:
            self._pending.refuse(obstacle)
            event(log, logging.WARNING, "door.refusing", reason=obstacle)
        if self._loop.stopping:
            self._listener.stop()
        return not self._listener.answers

    def _obstacle(self, broker: Broker) -> str | None:
        if broker.blocked is not None:
            return f"RabbitMQ accepts no messages at the moment ({broker.blocked})"
        if self._pending.stalled(self._timeout):
            self._stalled_since = self._pending.progress_at
        # The stall is over when one of the abandoned confirms arrives.
        if self._stalled_since == self._pending.progress_at:
            return f"RabbitMQ has confirmed nothing for {self._timeout:g} s"
        return None

    def _lost(self, error: Transient, wait: float) -> None:
        self._figures.lost += 1
        self._outage.failed(error, wait)

    def _listener_ended(self) -> None:
        if not (self._closing or self._loop.stopping):
            raise ListenError("the HTTP server ended unexpectedly")
