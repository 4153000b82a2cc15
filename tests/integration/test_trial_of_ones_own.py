"""A trial of a user's own handler, as docs/handlers.md shows it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from lab.harness.commands import BIN
from lab.trial.workload import load

DOCS = Path("docs/handlers.md")


def write_examples(folder: Path) -> None:
    """Write each example that starts with a file name into a folder."""
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCS.read_text(), re.DOTALL):
        (folder / name).write_text(code)


@pytest.mark.timeout(400)
def test_the_example_of_the_docs_passes_its_trial(tmp_path: Path) -> None:
    write_examples(tmp_path)
    command = re.search(r"lab (trial --handler orders:serve --check \S+)", DOCS.read_text())
    assert command
    (tmp_path / ".lab").mkdir()
    (tmp_path / ".lab" / "packages").symlink_to(Path(".lab/packages").resolve())
    result = subprocess.run(
        [BIN / "lab", *command[1].split(), "--faults", "handler.kill,handler.kill_connections",
         "--count", "2", "--gap", "0.1s", "--rate", "5"],
        cwd=tmp_path, env={**os.environ, "LAB_FOLDER": str(tmp_path / ".lab")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "handled and not committed" in result.stdout
    assert "Each request was recorded exactly once." in result.stdout


def test_an_error_found_by_a_check_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_orders.py").write_text("def serve(request, db): pass")
    (tmp_path / "my_check.py").write_text(
        "def check(cursor): assert cursor, 'nothing there'\n"
        "def each(cursor): yield from ('one', ('money', 'two'))\n"
        "def message(number): return f'm{number}'"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    workload = load("my_orders:serve", "my_check:check")
    assert workload.message
    assert workload.message(7) == "m7"
    assert workload.problems(True) == []
    assert workload.problems(None) == [("check", "nothing there")]
    assert load("my_orders:serve", "my_check:each").problems(None) == [
        ("check", "one"), ("money", "two"),
    ]  # fmt: skip
