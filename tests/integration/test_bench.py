"""The bench at a hundredth of its size: it runs, checks and reports. Speed is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from lab.harness.commands import BIN
from lab.harness.servers import Servers
from tests.laboratory import share_packages
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


def test_a_small_bench_runs(servers: Servers, tmp_path: Path) -> None:
    share_packages(servers, tmp_path)
    plot = tmp_path / "plot.png"
    result = bench(
        tmp_path, "--only", "start,strict,producer", "--rounds", "1", "--scale", "0.01",
        "--json", "--plot", str(plot),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    [measured] = report["rounds"]
    # C is left out on a machine without a compiler or the libraries.
    items = {"textbook", "strict", "textbook publisher", "producer", "start"}
    assert measured.keys() - {"C, publisher"} == items
    assert measured["textbook"]["fsyncs_per_1000"] >= 500
    assert measured["textbook publisher"]["fsyncs_per_1000"] >= 1000
    lines = [line["line"] for line in report["lines"]]
    assert [line["item"] for line in lines if "to C" not in line["label"]] == [
        "strict", "strict", "producer", "producer", "start",
    ]  # fmt: skip
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("bench-*")), "servers or data are left"


def test_a_small_bench_of_the_relay_runs(servers: Servers, tmp_path: Path) -> None:
    share_packages(servers, tmp_path)
    result = bench(tmp_path, "--only", "relay", "--rounds", "1", "--scale", "0.01", "--json")
    assert result.returncode == 0, result.stderr
    [measured] = json.loads(result.stdout)["rounds"]
    assert measured.keys() == {"textbook relay", "relay", "relay latency"}


def test_a_small_bench_of_the_door_runs(servers: Servers, tmp_path: Path) -> None:
    share_packages(servers, tmp_path)
    result = bench(tmp_path, "--only", "door", "--rounds", "1", "--scale", "0.01", "--json")
    assert result.returncode == 0, result.stderr
    [measured] = json.loads(result.stdout)["rounds"]
    assert measured.keys() == {"textbook view", "door"}
    # Each client waits for its confirm, and each confirm for a sync: a sync covers at most 64.
    assert all(figures["fsyncs_per_1000"] >= 1000 / 64 for figures in measured.values())


def test_an_unknown_item_is_refused(tmp_path: Path) -> None:
    result = bench(tmp_path, "--only", "strict,speed")
    assert result.returncode == ExitCode.USAGE
    assert "there is no 'speed'" in result.stderr
