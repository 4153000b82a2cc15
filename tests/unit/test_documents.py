"""What the documents list is what the code has: events, exit codes, metrics, options, versions."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import dashboard.cli
import lab.cli
import producer.cli
import worker.cli
from lab.harness.containers import DATABASE_IMAGE, RABBITMQ_IMAGE
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
    for program in ("producer", "worker", "dashboard"):
        shown = (PROGRAMS[program].help or "").partition("Exit codes:")[2]
        codes = {int(code) for code in re.findall(r"\b(\d+) [a-z]", shown)}
        assert {ExitCode.OK, ExitCode.USAGE, ExitCode.CONFIG} <= codes <= set(ExitCode), program


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
    """In blocks as in the text: ``worker audit --json``, and no option that does not exist."""
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


@pytest.mark.parametrize(
    ("page", "pattern", "command", "option"),
    [
        ("handlers.md", r"`--time-limit` \((\d+) min\)", "worker run", "--time-limit"),
        ("handlers.md", r"`--grace` \((\d+) s\)", "worker run", "--grace"),
        ("http.md", r"`--timeout` \((\d+) s\)", "producer serve", "--timeout"),
        ("operations.md", r"(\d+) GiB \(`--outbox-limit`\)", "producer send", "--outbox-limit"),
        ("operations.md", r"`--prefetch` \(([\d,]+) at most\)", "worker run", "--prefetch"),
        ("page.md", r"`--port`.*`(\d+)`", "dashboard", "--port"),
    ],
)
def test_each_default_and_bound_is_that_of_the_option(
    page: str, pattern: str, command: str, option: str
) -> None:
    shown = re.findall(pattern, (ROOT / "docs" / page).read_text())
    assert shown
    [parameter] = [each for each in COMMANDS[command].params if option in each.opts]
    context = click.Context(COMMANDS[command])
    value = parameter.type_cast_value(context, parameter.get_default(context))
    if "at most" in pattern:
        assert isinstance(parameter.type, click.IntRange)
        value = parameter.type.max
    unit = {" min": 60, " GiB": 1024**3}.get("".join(re.findall(r" min| GiB", pattern)), 1)
    assert {int(number.replace(",", "")) * unit for number in shown} == {value}


def test_the_pages_options_are_listed_with_their_variables() -> None:
    listed = {
        pair
        for options, variables, _ in table("## Set it up", (ROOT / "docs/page.md").read_text())
        for pair in zip(
            re.findall("`(.+?)`", options), re.findall("`(.+?)`", variables), strict=True
        )
    }
    there = {
        (option.opts[0], option.envvar)
        for option in COMMANDS["dashboard"].params
        if isinstance(option, click.Option) and option.envvar
    }
    assert listed == {(name, variable) for name, variable in there if "--log" not in name}


def test_each_variable_that_is_named_exists() -> None:
    there = {
        str(option.envvar)
        for command in COMMANDS.values()
        for option in command.params
        if isinstance(option, click.Option)
    }
    there |= {f"{name}_FILE" for name in there}
    there |= set(re.findall(r"\$\{(\w+)", (ROOT / "docker/compose.yaml").read_text()))
    ours = r"\b(?:AMQP|MYSQL|PRODUCER|RELAY|WORKER|DASHBOARD|MANAGEMENT|LAB|TURNWISE)_[A-Z_]+\b"
    for page in PAGES:
        named = set(re.findall(ours, page.read_text())) - {"MYSQL_PWD"}  # read by MySQL's client
        assert named <= there, f"{page.name}: {named - there}"


def test_the_versions_of_the_readme_are_those_that_are_tested() -> None:
    said = {row[0]: row[1] for row in table("| requires |", (ROOT / "README.md").read_text())}
    python, rabbitmq, database = said.values()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Python {project['requires-python'].removeprefix('>=')} or later" in next(iter(said))
    tested = re.findall(r"3\.\d+", python.replace("(Debian 12)", ""))
    assert [each.rpartition(" ")[2] for each in project["classifiers"] if " 3." in each] == tested
    assert f"FROM python:{tested[-1]}-slim" in (ROOT / "docker/Dockerfile").read_text()
    # What CI runs on: Debian 12, whose packages are Python 3.11, RabbitMQ 3.10 and MariaDB 10.11.
    assert "container: debian:bookworm" in (ROOT / ".github/workflows/ci.yml").read_text()
    _, newest = re.findall(r"\d+\.\d+", re.sub(r"(\d+\.\d+)\.\d+", r"\1", rabbitmq))
    mysql = re.findall(r"MySQL (\d+\.\d+)", database)
    compose = (ROOT / "docker/compose.yaml").read_text()
    for image, version in ((RABBITMQ_IMAGE, newest), (DATABASE_IMAGE, *mysql)):
        assert f":{version}" in image
        assert f"image: {image}\n" in compose
