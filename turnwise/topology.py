"""The exchanges and the two queues, and how they are declared.

    exchange NAME (direct) -> queue NAME (quorum) -> exchange NAME.dead -> queue NAME.dead (quorum)

Every argument is deliberate. RabbitMQ refuses to redeclare a queue with different arguments (406),
so a release that changes one needs the steps in docs/operations.md.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

from turnwise.broker import Broker
from turnwise.errors import Permanent, Refused, Transient
from turnwise.founding import ensure_nowhere

DEFAULT_QUEUE = "requests"

DELIVERY_LIMIT = 1000
"""How often the broker delivers a request before it dead-letters it.

Each connection that a worker loses counts. RabbitMQ 4 defaults to 20, which an unlucky but valid
request can reach; without a limit, a request that kills its worker would do so for ever."""

DEAD_DELIVERY_LIMIT = 1_000_000
"""The same for dead letters. Each time they are read counts; beyond the limit they are dropped."""

NOT_FOUND = 404
_PRECONDITION_FAILED = 406


class QueueMissing(Transient):
    """A queue that existed is gone."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The names and arguments of one pipeline, which is named after its queue."""

    queue: str = DEFAULT_QUEUE

    @property
    def exchange(self) -> str:
        """The exchange that the producer publishes to, with ``queue`` as the routing key."""
        return self.queue

    @property
    def dead(self) -> str:
        """The name of both the exchange and the queue of the dead letters."""
        return f"{self.queue}.dead"

    @property
    def queue_arguments(self) -> dict[str, Any]:
        """The arguments of the queue.

        At-least-once dead-lettering needs all of strategy, exchange and overflow; if one is
        missing it silently becomes at-most-once (https://www.rabbitmq.com/docs/quorum-queues).
        """
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": self.dead,
            "x-dead-letter-routing-key": self.dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    @property
    def dead_arguments(self) -> dict[str, Any]:
        """The arguments of the queue of dead letters."""
        return {"x-queue-type": "quorum", "x-delivery-limit": DEAD_DELIVERY_LIMIT}

    def declare(self, broker: Broker, *, make: bool = True, patience: float = math.inf) -> bool:
        """Declare everything; return whether the queue was created.

        ``make``: whether a missing queue may be created.
        ``patience``: seconds to wait for each answer, if fewer than usual.

        For an account without the configure permission, an existing queue is enough. Raises
        Transient if that account finds no queue yet, Elsewhere if another node has it, Unsure if
        another node may have it, QueueMissing if there is none and ``make`` is false, Permanent if
        there is a queue of that name with other arguments.
        """
        existed = self._exists(broker, patience)
        if not existed:
            ensure_nowhere(broker, self.queue, self._exists)
            if not make:
                raise QueueMissing(
                    f"{broker.node} (cluster {broker.cluster!r}) no longer has the queue "
                    f"{self.queue!r}, though it confirmed requests in it: the queue was deleted, "
                    "or its data are lost. Waiting for a worker or an operator to recreate it"
                )
        try:
            with contextlib.closing(broker.channel(patience)) as channel:
                for name, arguments in (
                    (self.dead, self.dead_arguments),
                    (self.queue, self.queue_arguments),
                ):
                    raw, call = channel.raw, channel.call
                    call(raw.exchange_declare, exchange=name, exchange_type="direct", durable=True)
                    call(raw.queue_declare, queue=name, durable=True, arguments=arguments)
                    call(raw.queue_bind, queue=name, exchange=name, routing_key=name)
        except Refused:
            if not existed:
                raise Transient(
                    f"{broker.node} has no queue {self.queue!r}, and the user "
                    f"{broker.node.username!r} may not create it; waiting for a worker to do so"
                ) from None
        except Transient as error:
            if error.code != _PRECONDITION_FAILED:
                raise
            raise Permanent(
                f"{error}. Another program or release created it: use another --queue, or "
                "drain and delete that one (docs/operations.md)",
                code=error.code,
            ) from None
        return not existed

    def _exists(self, broker: Broker, patience: float = math.inf) -> bool:
        try:
            with contextlib.closing(broker.channel(patience)) as channel:
                channel.call(channel.raw.queue_declare, queue=self.queue, passive=True)
        except Refused:
            return True  # it may not even look; publishing with ``mandatory`` will show
        except Transient as error:
            if error.code != NOT_FOUND:
                raise
            return False
        return True
