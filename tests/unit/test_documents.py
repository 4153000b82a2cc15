"""What the documents list is what the code has: events, exit codes, metrics, options."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import dashboard.cli
import lab.cli
import producer.cli
import worker.cli
from turnwise.errors import ExitCode

ROOT = Path(__file__).parent.parent.parent
INSTALLED = ("turnwise", "producer", "worker", "dashboard")
OPERATIONS = (ROOT / "docs/operations.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS: dict[str, click.Command] = {
    "producer": producer.cli.main,
    "worker": worker.cli.main,
    "dashboard": dashboard.cli.main,
    "lab": lab.cli.main,
}
EVENT = {"event", "log.event"}
BROKEN_OFF = {130, 141}
"""By a signal: of the shell's making, not of the program's."""


@functools.cache
def nodes() -> list[ast.AST]:
    paths = [path for folder in INSTALLED for path in (ROOT / folder).rglob("*.py")]
    return [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]


def table(after: str, page: str = OPERATIONS) -> Iterator[list[str]]:
    """Yield the rows of the first table after a heading or a line."""
    rows = re.search(r"\n\|[-|]+\n((?:\|.*\n)+)", page[page.index(after) :])
    assert rows
    for row in rows[1].splitlines():
        yield [cell.strip() for cell in row.strip("|").split(" | ")]


def test_each_event_is_in_the_table() -> None:
    raised: set[str] = set()
    for node in nodes():
        if isinstance(node, ast.Call) and ast.unparse(node.func) in EVENT and len(node.args) > 2:
            name = node.args[2]
            if isinstance(name, ast.Constant):
                raised.add(str(name.value))
        elif isinstance(node, ast.Constant) and re.fullmatch(
            r"worker\.(?:stopping|moving)", str(node.value)
        ):
            raised.add(str(node.value))
    for server in ("broker", "database", "audit"):
        raised |= {f"{server}.away", f"{server}.back"}
    listed = {
        name for names, *_ in table("| event | level |") for name in re.findall(r"`(.+?)`", names)
    }
    assert raised == listed


def test_each_exit_code_is_in_the_table() -> None:
    listed = {int(code) for codes, *_ in table("## Exit codes") for code in codes.split(",")}
    assert listed == set(ExitCode) | BROKEN_OFF


def test_each_metric_is_in_the_documents() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for node in nodes():
        if isinstance(node, ast.Constant) and re.fullmatch(r"turnwise_\w+", str(node.value)):
            # Of a counter, Prometheus' name has another end.
            assert re.search(rf"\b{node.value!s}(?:_total)?\b", text), node.value


def commands(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(command, parent=parent)
    yield name, command
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            child = command.get_command(context, each)
            assert child is not None
            yield from commands(child, f"{name} {each}", context)


COMMANDS = {
    name: command for program, main in PROGRAMS.items() for name, command in commands(main, program)
}


def test_every_option_of_a_long_running_command_is_an_environment_variable() -> None:
    for name in ("producer serve", "producer relay", "worker run", "dashboard"):
        for option in COMMANDS[name].params:
            if isinstance(option, click.Option) and option.name != "version":
                assert option.envvar, f"{name} {option.opts}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_and_option_that_is_shown_exists(page: Path) -> None:
    """In a line of code as in a word: ``worker audit --json``, and no other options."""
    shown = re.findall(r"(?:^ {4}|^|`)((?:producer|worker|dashboard|lab) [a-z-][^`\n|;&#]*)",
                       page.read_text(), re.MULTILINE)  # fmt: skip
    for line in shown:
        words = line.split()
        name = words[0]
        while len(words) > 1 and f"{name} {words[1]}" in COMMANDS:
            name += f" {words.pop(1)}"
        command = COMMANDS[name]
        known = {"-h", "--help"} | {opt for each in command.params for opt in each.opts}
        used = set(re.findall(r"(?:^| )(--[a-z][a-z-]*)", line))
        assert used <= known, f"{line}: {used - known}"
        if isinstance(command, click.Group):
            assert len(words) == 1 or words[1].startswith("-"), line
