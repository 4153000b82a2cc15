"""The bench at a hundredth of its size: it runs, checks and tells. Nothing about speed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lab.bench.contender import Figures
from lab.bench.lines import CONTENDERS, LINES, Line, contenders, tell
from lab.commands import BIN
from lab.servers import Servers
from turnwise.errors import ExitCode


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "lab", "bench", *options],
        env={**os.environ, "LAB_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_a_small_bench(servers: Servers, tmp_path: Path) -> None:
    packages = servers.folder.parent / "packages"
    if packages.exists():
        (tmp_path / "packages").symlink_to(packages.resolve())
    plot = tmp_path / "plot.png"
    result = bench(
        tmp_path, "--only", "start,strict,producer", "--rounds", "1", "--scale", "0.01",
        "--json", "--plot", str(plot),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    [measured] = report["rounds"]
    assert measured.keys() == {"textbook", "strict", "textbook publisher", "producer", "start"}
    assert measured["textbook"]["fsyncs_per_1000"] >= 500
    assert measured["textbook publisher"]["fsyncs_per_1000"] >= 1000
    assert [line["line"]["item"] for line in report["lines"]] == [
        "strict", "strict", "producer", "producer", "start",
    ]  # fmt: skip
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("bench-*")), "servers or data are left"


def test_a_small_bench_of_the_door(servers: Servers, tmp_path: Path) -> None:
    packages = servers.folder.parent / "packages"
    if packages.exists():
        (tmp_path / "packages").symlink_to(packages.resolve())
    result = bench(tmp_path, "--only", "door", "--rounds", "1", "--scale", "0.01", "--json")
    assert result.returncode == 0, result.stderr
    [measured] = json.loads(result.stdout)["rounds"]
    assert measured.keys() == {"textbook view", "door"}
    # Each confirm waits for a sync, and a client for its confirm: a sync covers 64 at most.
    assert all(figures["fsyncs_per_1000"] >= 1000 / 64 for figures in measured.values())


def test_an_item_that_there_is_not(tmp_path: Path) -> None:
    result = bench(tmp_path, "--only", "strict,speed")
    assert result.returncode == ExitCode.USAGE
    assert "there is no 'speed'" in result.stderr


def test_each_line_names_figures_of_contenders() -> None:
    for line in LINES:
        assert contenders([line])
        for figure in (line.figure, line.against):
            assert figure is None or figure[0] in CONTENDERS


@pytest.mark.parametrize(
    ("less_is_better", "target", "stretch", "reached"),
    [
        (False, 2.0, 3.0, "target"),
        (False, 2.0, 2.5, "stretch"),
        (False, 2.6, 3.0, "missed"),
        (True, 2.5, 2.0, "target"),
        (True, 3.0, 2.5, "stretch"),
        (True, 2.0, 1.0, "missed"),
        (False, None, None, ""),
    ],
)
def test_ratios_are_those_within_a_round(
    less_is_better: bool, target: float | None, stretch: float | None, reached: str
) -> None:
    rounds: list[dict[str, Figures]] = [
        {"a": {"x": 10}, "b": {"y": 5}},
        {"a": {"x": 50}, "b": {"y": 20}},
        {"a": {"x": 30}, "b": {"y": 10}},
        {"b": {"y": 1000}},
        {"a": {"x": 1000}},
    ]
    line = Line("item", "label", ("a", "x"), "s", ("b", "y"), target, stretch, less_is_better)
    told = tell(line, rounds)
    assert told
    assert (told.figure.median, told.figure.low, told.figure.high) == (30, 10, 50)
    assert told.ratio is not None
    assert (told.ratio.median, told.ratio.low, told.ratio.high) == (2.5, 2, 3)
    assert told.reached == reached
