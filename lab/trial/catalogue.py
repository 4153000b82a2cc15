"""All faults, by name."""

from __future__ import annotations

from lab.harness import links
from lab.harness.errors import LabError
from lab.trial import (
    broker_faults,
    data_faults,
    database_faults,
    galera_faults,
    handler_faults,
    network_faults,
    node_faults,
    outage_faults,
    partition_faults,
    process_faults,
    prune_faults,
)
from lab.trial.faults import CATALOGUE
from lab.trial.schedule import Kind

__all__ = [
    "CATALOGUE",
    "broker_faults",
    "chosen",
    "data_faults",
    "database_faults",
    "galera_faults",
    "handler_faults",
    "network_faults",
    "node_faults",
    "outage_faults",
    "partition_faults",
    "process_faults",
    "prune_faults",
]


OF_THREE = ("node.", "worker.", "client.", "door.", "network.")
"""Groups of faults that run with three nodes of each server; the others need a single node."""


def chosen(
    selection: str, handler: str | None = None, nodes: int = 1, outage: float | None = None
) -> list[Kind]:
    """Return the kinds that a list of names or groups selects (``worker,network.latency``).

    An empty list selects all but the long outages. Faults of a handler need a handler, and faults
    of the trial's own tables need the trial's own handler. No rows are removed if a handler's check
    may look at them. ``outage`` is the length of a long outage in seconds, instead of its default.
    Raises LabError for a name that selects nothing.
    """
    possible = {
        name: entry
        for name, entry in CATALOGUE.items()
        if (handler or not name.startswith("handler."))
        and not (handler and (name.startswith("prune.") or name == "node.conflict"))
        and (handler == "money" or name != "handler.deadlock")
        and (name.startswith(OF_THREE) if nodes > 1 else not name.startswith("node."))
        and (links.can_be_cut() or not name.endswith("_partition"))
    }
    wanted = [word.strip() for word in selection.split(",") if word.strip()] or [""]

    def selects(word: str, name: str) -> bool:
        if not word:
            return not name.startswith("outage.")
        return name == word or name.startswith(f"{word}.")

    for word in wanted:
        if not any(selects(word, name) for name in possible):
            raise LabError(f"there is no fault {word!r}; there are {', '.join(possible)}")
    kinds = [
        entry.kind
        for name, entry in possible.items()
        if any(selects(word, name) for word in wanted)
    ]
    if outage is None:
        return kinds
    return [
        Kind(kind.name, outage, outage) if kind.name.startswith("outage.") else kind
        for kind in kinds
    ]
