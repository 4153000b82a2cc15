"""The commands: each one that is listed exists, and --help imports nothing needless."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest

import dashboard.cli
import lab.cli
import producer.cli
import worker.cli


@pytest.mark.parametrize(
    ("group", "name"),
    [
        *((producer.cli.main, name) for name in producer.cli.COMMANDS),
        *((worker.cli.main, name) for name in worker.cli.COMMANDS),
        *((lab.cli.main, name) for name in lab.cli.COMMANDS),
    ],
)
def test_each_listed_command_loads_under_its_name(group: click.Group, name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.name == name


@pytest.mark.parametrize(
    ("command", "needless"),
    [
        ("producer", {"pika", "pymysql", "tenacity"}),
        ("worker", {"pika", "pymysql", "tenacity"}),
        ("lab", {"matplotlib", "pika", "pymysql", "tenacity"}),
        ("lab trial", {"matplotlib"}),
        ("lab bench", {"matplotlib"}),
        # Its options are URLs, which the drivers' modules read.
        ("dashboard", {"flask", "waitress", "werkzeug"}),
    ],
)
def test_help_imports_only_what_it_needs(command: str, needless: set[str]) -> None:
    program, *words = command.split()
    code = (
        "import sys, click\n"
        f"import {program}.cli as module\n"
        f"module.main({[*words, '--help']}, standalone_mode=False)\n"
        f"print({needless} & sys.modules.keys())\n"
    )
    result: Any = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "program", [producer.cli.main, worker.cli.main, lab.cli.main, dashboard.cli.main]
)
def test_dash_h_shows_help_and_no_text_is_cut_off(program: click.Command) -> None:
    def texts(command: click.Command, parent: click.Context | None) -> Iterator[str]:
        context = click.Context(command, parent=parent, **command.context_settings)
        assert context.help_option_names == ["-h", "--help"]
        yield command.get_help(context)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                yield from texts(child, context)

    for text in texts(program, None):
        # click ends a text that it cuts off like this; 'and so on' has a space before the dots.
        assert not re.search(r"\w\.\.\.$", text, re.MULTILINE), text
