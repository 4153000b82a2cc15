"""All faults, by name."""

from __future__ import annotations

from lab.errors import LabError
from lab.trial import broker_faults, database_faults, network_faults, process_faults
from lab.trial.faults import CATALOGUE
from lab.trial.schedule import Kind

__all__ = [
    "CATALOGUE",
    "broker_faults",
    "chosen",
    "database_faults",
    "network_faults",
    "process_faults",
]


def chosen(selection: str) -> list[Kind]:
    """Return the kinds that a list of names or groups selects (``worker,network.latency``).

    All, if the list is empty. Raises LabError for a name that selects none.
    """
    wanted = [word.strip() for word in selection.split(",") if word.strip()] or [""]

    def selects(word: str, name: str) -> bool:
        return not word or name == word or name.startswith(f"{word}.")

    for word in wanted:
        if not any(selects(word, name) for name in CATALOGUE):
            raise LabError(f"there is no fault {word!r}; there are {', '.join(CATALOGUE)}")
    return [
        entry.kind
        for name, entry in CATALOGUE.items()
        if any(selects(word, name) for word in wanted)
    ]
