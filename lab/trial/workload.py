"""The work of a trial's workers: a handler, and the check of its effects."""

from __future__ import annotations

import importlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from lab.harness.errors import LabError
from lab.trial.rig import HANDLER, RIG

MONEY = "lab.trial.money"

MAX_ATTEMPTS = 4

TIME_LIMIT = 60.0
"""Seconds for one call of a handler, which a fault may freeze and hold for half of that."""

LEASE = TIME_LIMIT + 60.0
"""Seconds until another worker takes a failure whose worker was killed while it was retrying it."""

SERVED_OR_GIVEN_UP = """
    SELECT (SELECT COUNT(*) FROM requests) + (
        SELECT COUNT(*) FROM failures WHERE due_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM requests
            WHERE requests.client = failures.client AND requests.counter = failures.counter
        )
    )
"""

Identity = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Workload:
    """A handler on trial, with its check.

    ``check(cursor)`` looks at the database at the end. If its invariant does not hold, it raises
    AssertionError or yields problems. ``prepare(cursor)`` creates the handler's tables, and
    ``message(number)`` returns the message of a client's request.
    """

    handler: str
    check: Callable[[Any], Iterable[str | tuple[str, str]] | None] | None
    prepare: Callable[[Any], object] | None
    message: Callable[[int], str] | None

    def environment(self, rig: Path) -> dict[str, str]:
        """Return the environment of a worker whose own folder is ``rig``."""
        rig.mkdir(exist_ok=True)
        return {HANDLER: self.handler, RIG: str(rig)}

    @property
    def options(self) -> list[str]:
        """Options for ``worker run``."""
        limits = ["--max-attempts", str(MAX_ATTEMPTS), "--time-limit", f"{TIME_LIMIT:g}s"]
        return ["--handler", "lab.trial.rigged:serve", *limits]

    def problems(self, cursor: Any) -> list[tuple[str, str]]:
        """Return each problem: a kind of the trial's findings, and a case."""
        if self.check is None:
            return []
        try:
            found = list(self.check(cursor) or ())
        except AssertionError as error:
            return [("check", str(error) or "AssertionError")]
        return [each if isinstance(each, tuple) else ("check", str(each)) for each in found]


def load(handler: str, check: str | None) -> Workload:
    """Load a handler and its check: ``money``, or MODULE:FUNCTION. Raises LabError."""
    if handler == "money":
        handler, check = f"{MONEY}:serve", check or f"{MONEY}:check"
    sys.path.insert(0, str(Path.cwd()))
    _find(handler)
    module = sys.modules[check.partition(":")[0]] if check and _find(check) else None
    return Workload(
        handler=handler,
        check=_find(check) if check else None,
        prepare=getattr(module, "prepare", None),
        message=getattr(module, "message", None),
    )


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        return attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise LabError(f"there is no {name!r} (MODULE:FUNCTION): {error}") from error


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of the workers' handlers, by request."""

    begun: Counter[Identity] = field(default_factory=Counter)
    """How often the handler was called."""
    raised: Counter[Identity] = field(default_factory=Counter)
    held: Counter[Identity] = field(default_factory=Counter)
    """How often a fault held the handler."""
    unfinished: Mapping[Identity, frozenset[int]] = field(default_factory=dict)
    """The ids of processes that called the handler, and in which it did not raise."""


def calls(rigs: Iterable[Path]) -> Calls:
    """Read the calls that the rigged handlers recorded in these folders."""
    counts: dict[str, Counter[Identity]] = defaultdict(Counter)
    unfinished: dict[Identity, set[int]] = defaultdict(set)
    for rig in rigs:
        file = rig / "calls"
        for line in file.read_text().splitlines() if file.exists() else ():
            what, client, counter, pid = line.split()
            identity = (client, int(counter))
            counts[what][identity] += 1
            if what == "begun":
                unfinished[identity].add(int(pid))
            elif what == "raised":
                unfinished[identity].discard(int(pid))
    return Calls(
        counts["begun"],
        counts["raised"],
        counts["held"],
        {identity: frozenset(pids) for identity, pids in unfinished.items()},
    )
