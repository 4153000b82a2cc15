"""The installed programs find their own packages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lab.harness.commands import BIN
from turnwise import __version__
from turnwise.errors import ExitCode


@pytest.mark.parametrize("name", ["producer", "worker", "dashboard"])
def test_a_package_of_the_users_with_the_same_name_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    result = subprocess.run(
        [BIN / name, "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == ExitCode.CONFIG
    assert str(tmp_path / name) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_package_reports_what_is_installed() -> None:
    result = subprocess.run(
        [BIN / "python", "-m", "turnwise"], capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    assert lines[0] == f"turnwise {__version__}"
    assert any(line.startswith("pika ") for line in lines)
    assert any(line.startswith("turnwise[page] Flask ") for line in lines)
