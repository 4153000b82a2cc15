"""The folders' arrows: who may use whom. The tree is the architecture, so it is tested."""

from __future__ import annotations

import ast
import contextlib
import functools
import pkgutil
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


@functools.cache
def nodes(source: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(source)))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path.read_text()):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("folder", ALLOWED)
def test_dependencies_go_one_way(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        used = set(imports(path)) & ALLOWED.keys() - {folder}
        assert used <= ALLOWED[folder], f"{path} uses {used - ALLOWED[folder]}"


def test_the_harness_does_not_depend_on_what_runs_on_it() -> None:
    """The tests run on it, and so do demo, trials and benchmarks, which users run."""
    for path in (ROOT / "lab/harness").glob("*.py"):
        for node in nodes(path.read_text()):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lab"):
                assert (node.module or "").startswith("lab.harness"), path


TRANSLATORS = {"pika": "turnwise/amqp_errors.py", "pymysql": "turnwise/database.py"}


def names(source: str) -> set[str]:
    """Return what the source names of other modules, each by its full name."""
    imported: dict[str, str] = {}
    dotted = set()
    for node in nodes(source):
        if isinstance(node, ast.Import):
            for each in node.names:
                name = each.asname or each.name.partition(".")[0]
                imported[name] = each.name if each.asname else name
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {e.asname or e.name: f"{node.module}.{e.name}" for e in node.names}
        elif isinstance(node, ast.Attribute):
            dotted.add(ast.unparse(node).partition("."))
    used = {f"{imported[first]}.{rest}" for first, _, rest in dotted if first in imported}
    return used | set(imported.values())


def drivers_errors(source: str) -> set[tuple[str, str]]:
    """Return the drivers' errors that the source names: (driver, name)."""
    found = set()
    for name in names(source):
        if name.partition(".")[0] in ALLOWED.keys() | TRANSLATORS.keys():
            with contextlib.suppress(ImportError, AttributeError, ValueError):
                error = pkgutil.resolve_name(name)
                if isinstance(error, type) and issubclass(error, BaseException):
                    found.add((error.__module__.partition(".")[0], name))
    return {(driver, name) for driver, name in found if driver in TRANSLATORS}


@pytest.mark.parametrize("folder", ["turnwise", "producer", "worker", "dashboard"])
def test_drivers_errors_are_translated_in_one_place(folder: str) -> None:
    """No other module names one of them, whether to catch it or to raise it."""
    for path in (ROOT / folder).rglob("*.py"):
        here = path.relative_to(ROOT).as_posix()
        for driver, name in drivers_errors(path.read_text()):
            assert here == TRANSLATORS[driver], f"{here} names {name}"


@pytest.mark.parametrize(
    "source",
    [
        "import pymysql\ntry: ...\nexcept pymysql.Error: ...",
        "import pymysql.err as e\ntry: ...\nexcept e.IntegrityError: ...",
        "from pymysql import OperationalError as Lost",
        "from pika import exceptions\ntry: ...\nexcept exceptions.AMQPError: ...",
        "import turnwise.database as d\ntry: ...\nexcept d.pymysql.Error: ...",
    ],
)
def test_a_drivers_error_is_found_under_any_import_name(source: str) -> None:
    assert drivers_errors(source)
    assert not drivers_errors("import pymysql\nfrom pymysql.constants import ER\nprint(pymysql.v)")


def test_no_file_is_too_long() -> None:
    for path in ROOT.glob("*/**/*.py"):
        if path.relative_to(ROOT).parts[0] in ALLOWED:
            assert len(path.read_text().splitlines()) <= 420, path
