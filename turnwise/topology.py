"""The exchange and the two queues, and how they come to be.

    exchange NAME (direct) -> queue NAME (quorum) -> exchange NAME.dead -> queue NAME.dead (quorum)

Every argument is set on purpose. Another value for one of them is another queue: RabbitMQ refuses
to declare it again (406), so a release that changes one needs the steps in docs/operations.md.
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
"""How often the broker hands out one request before it is dead-lettered.

Each lost connection of a worker counts against it. RabbitMQ 4 has 20 by default, which an unlucky
but valid request can meet; none at all would let a request that kills its worker do so for ever."""

DEAD_DELIVERY_LIMIT = 1_000_000
"""The same for dead letters, which each look at them counts against; beyond it they are dropped."""

NOT_FOUND = 404
_PRECONDITION_FAILED = 406


class QueueMissing(Transient):
    """The queue is gone from where it was."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The names and arguments that belong to one pipeline, called after its queue."""

    queue: str = DEFAULT_QUEUE

    @property
    def exchange(self) -> str:
        """Where the producer publishes, with ``queue`` as the routing key."""
        return self.queue

    @property
    def dead(self) -> str:
        """Both the exchange and the queue of the dead letters."""
        return f"{self.queue}.dead"

    @property
    def queue_arguments(self) -> dict[str, Any]:
        """The arguments of the queue.

        At-least-once dead-lettering needs all of strategy, exchange and overflow; without one of
        them it silently becomes at-most-once (https://www.rabbitmq.com/docs/quorum-queues).
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
        """Make sure that all of it is there as it is meant to be; whether the queue was made.

        ``patience``: seconds for each answer, if they are to be fewer than usual.

        An account that may not configure is content with a queue that exists. Raises Transient if
        there is none yet, Elsewhere or Unsure if another node has it or may have it, QueueMissing
        if there is none and it must not be made (not ``make``), Permanent if there is another one
        of that name.
        """
        existed = self._exists(broker, patience)
        if not existed:
            ensure_nowhere(broker, self.queue, self._exists)
            if not make:
                raise QueueMissing(
                    f"{broker.node} (cluster {broker.cluster!r}) has no queue {self.queue!r} any "
                    "more, though requests were confirmed in it: somebody deleted it, or its data "
                    "are lost. Waiting for a worker or an operator to make it again"
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
                    f"{broker.node.username!r} may not make it; waiting for a worker to do so"
                ) from None
        except Transient as error:
            if error.code != _PRECONDITION_FAILED:
                raise
            raise Permanent(
                f"{error}. Another program or release made it: use another --queue, or drain "
                "and delete that one (docs/operations.md)",
                code=error.code,
            ) from None
        return not existed

    def _exists(self, broker: Broker, patience: float = math.inf) -> bool:
        try:
            with contextlib.closing(broker.channel(patience)) as channel:
                channel.call(channel.raw.queue_declare, queue=self.queue, passive=True)
        except Refused:
            return True  # it may not even look: publishing with ``mandatory`` will tell
        except Transient as error:
            if error.code != NOT_FOUND:
                raise
            return False
        return True
