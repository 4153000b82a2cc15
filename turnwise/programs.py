"""The installed programs: each finds its own package, or explains why it cannot."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from turnwise.errors import ExitCode

_HOME = Path(__file__).parent.parent


def producer() -> None:
    """Run the command ``producer``."""
    _run("producer")


def worker() -> None:
    """Run the command ``worker``."""
    _run("worker")


def dashboard() -> None:
    """Run the command ``dashboard``."""
    _run("dashboard")


def _run(name: str) -> None:
    package = importlib.import_module(name)
    # 'worker' is a likely name for a package of the user's too, and PYTHONPATH comes first.
    found = list(package.__path__) if hasattr(package, "__path__") else [str(package.__file__)]
    if [Path(folder) for folder in found] != [_HOME / name]:
        print(
            f"{name}: Python finds another package {name!r}, at {found[0]}, before Turnwise's own. "
            "Rename it, or take its folder out of PYTHONPATH.",
            file=sys.stderr,
        )
        sys.exit(ExitCode.CONFIG)
    importlib.import_module(f"{name}.cli").main()
