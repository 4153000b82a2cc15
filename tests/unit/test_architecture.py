"""The folders' arrows: who may use whom. The tree is the architecture, so it is tested."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ALLOWED = {
    "turnwise": set(),
    "producer": {"turnwise"},
    "worker": {"turnwise"},
    "dashboard": {"turnwise"},
    # It starts the others as processes, through their commands.
    "lab": {"turnwise"},
    "tests": {"turnwise", "producer", "worker", "dashboard", "lab"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("folder", ALLOWED)
def test_arrows_go_one_way(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        used = set(imports(path)) & ALLOWED.keys() - {folder}
        assert used <= ALLOWED[folder], f"{path} uses {used - ALLOWED[folder]}"


def test_the_harness_knows_nothing_of_what_runs_on_it() -> None:
    """The tests run on it, and so do demo, trials and benchmarks, which users run."""
    for path in (ROOT / "lab/harness").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lab"):
                assert (node.module or "").startswith("lab.harness"), path


@pytest.mark.parametrize("driver", ["pika", "pymysql"])
def test_drivers_errors_are_translated_in_one_place(driver: str) -> None:
    """Nobody else imports the module of a driver's errors, or catches by its names."""
    for folder in ("turnwise", "producer", "worker", "dashboard"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name in {"amqp_errors.py", "database.py"}:
                continue
            text = path.read_text()
            assert f"{driver}.exceptions" not in text, path
            assert f"{driver}.err" not in text, path


def test_no_file_does_too_much() -> None:
    for path in ROOT.glob("*/**/*.py"):
        if path.relative_to(ROOT).parts[0] in ALLOWED:
            assert len(path.read_text().splitlines()) <= 420, path
