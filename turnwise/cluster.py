"""Finds problems of a RabbitMQ cluster in the answers of its management API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NODE_FIELDS = "name,running,partitions"
QUEUE_FIELDS = "name,type,members,online"
"""The fields to request of ``/api/nodes`` and of ``/api/queues``."""


def warnings(
    nodes: Sequence[Mapping[str, Any]], queues: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a sentence for each partition, each node that is down, and each missing queue member.

    ``nodes`` is the answer of ``/api/nodes``, each of ``queues`` that of
    ``/api/queues/VHOST/NAME``.
    """
    running = [str(node["name"]) for node in nodes if node.get("running")]
    for node in nodes:
        if node["name"] not in running:
            yield f"RabbitMQ's node {node['name']} is down: one more, and there may be no majority."
        if apart := ", ".join(sorted(node.get("partitions") or [])):
            yield (
                f"RabbitMQ is partitioned: {node['name']} does not see {apart}. With the policy "
                "'ignore' that does not heal by itself: restart the nodes of the smaller part."
            )
    for queue in queues:
        members = queue.get("members")
        if queue.get("type") != "quorum" or not members:
            continue
        for name in running:
            if name not in members:
                yield (
                    f"The queue {queue['name']!r} has {len(members)} of {len(nodes)} members, none "
                    f"at {name}: rabbitmq-queues grow {name} all"
                )
            elif name not in (queue.get("online") or []):
                yield f"The member of the queue {queue['name']!r} at {name} is not online."
