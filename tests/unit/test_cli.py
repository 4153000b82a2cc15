"""The commands: what is listed is there, and --help imports no driver."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import click
import pytest

import producer.cli
import worker.cli


@pytest.mark.parametrize(
    ("group", "name"),
    [
        *((producer.cli.main, name) for name in producer.cli.COMMANDS),
        *((worker.cli.main, name) for name in worker.cli.COMMANDS),
    ],
)
def test_each_listed_command_loads_under_its_name(group: click.Group, name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.name == name


@pytest.mark.parametrize("program", ["producer", "worker"])
def test_help_imports_no_driver(program: str) -> None:
    code = (
        "import sys, click\n"
        f"import {program}.cli as module\n"
        "module.main(['--help'], standalone_mode=False)\n"
        "print({'pika', 'pymysql', 'tenacity'} & sys.modules.keys())\n"
    )
    result: Any = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "set()"
