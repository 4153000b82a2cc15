"""The lab as users see it, and the commands on the README's first screen."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from lab.harness.commands import BIN
from lab.harness.packages import Programs
from lab.harness.process import Process, answers, wait_until
from lab.harness.servers import Servers
from tests.laboratory import lab, share_packages
from turnwise.errors import ExitCode

ROOT = Path(__file__).parent.parent.parent


README = (ROOT / "README.md").read_text()


@pytest.fixture
def folder(servers: Servers, tmp_path: Path) -> Path:
    """A folder for the lab that reuses the servers' programs already fetched."""
    share_packages(servers, tmp_path)
    return tmp_path


def left_running(folder: Path) -> str:
    """Return the processes whose command line names the folder."""
    return subprocess.run(
        ["/usr/bin/pgrep", "-af", str(folder)], capture_output=True, text=True, check=False
    ).stdout


def page_port(said: str) -> int:
    """Return the port of the page, whose address is printed at least once."""
    [port] = set(re.findall(r"^page +http://127\.0\.0\.1:(\d+)/$", said, re.MULTILINE))
    return int(port)


def test_the_demo_shows_what_it_announces(folder: Path) -> None:
    said = lab("demo", folder=folder).stdout
    assert "served 30, missing 0, repeated 0" in said
    assert "RabbitMQ is restarted" in said
    assert "is killed (SIGKILL)" in said
    assert "recorded exactly once" in said
    assert said.startswith("page ")
    assert "in turns, but for" in said
    assert said.splitlines()[-1].endswith("lab up")
    assert not answers(page_port(said))
    assert not left_running(folder)


def test_an_interrupted_demo_leaves_nothing_running(folder: Path) -> None:
    demo = Process("demo", folder, [BIN / "lab", "--", "demo"], {"LAB_FOLDER": str(folder)})
    demo.start()
    wait_until(lambda: "worker-1" in demo.log.read_text(), "it serves", 60, demo)
    demo.signal(signal.SIGINT)
    assert demo.wait(20) == 130
    assert not left_running(folder)


def test_what_the_readme_shows_works(folder: Path) -> None:
    [block] = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    script = block.replace(". .venv/bin/activate", f"export PATH={BIN}:$PATH")
    assert script != block
    result = subprocess.run(
        ["/bin/bash", "-euxc", script],
        env={**os.environ, "LAB_FOLDER": str(folder), "PRODUCER_OUTBOX": str(folder / "outbox.db")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "http://127.0.0.1:" in result.stdout
    assert re.search(r"\S+-\w{6}\s+5\s+5(?:\s+0){3}\s+6", result.stdout), result.stdout
    assert "worker-1, worker-2, worker-3" in result.stdout
    assert result.stdout.startswith("page ")
    assert not answers(page_port(result.stdout))
    assert not left_running(folder)


def test_up_down_and_status_work_with_nothing_running(tmp_path: Path) -> None:
    assert "nothing is up" in lab("down", folder=tmp_path).stdout
    assert "nothing is up" in lab("status", folder=tmp_path, code=1).stdout
    assert lab("env", folder=tmp_path, code=78).stdout == ""


def test_an_unknown_fault_is_named_before_anything_starts(tmp_path: Path) -> None:
    result = subprocess.run(
        [BIN / "lab", "trial", "--faults", "worker,meteorite", "--folder", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == ExitCode.USAGE
    assert "no fault 'meteorite'" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(Programs(Path("/")).have_rabbitmq(), reason="this machine has the servers")
def test_without_servers_or_packages_the_error_names_the_remedy(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    result = subprocess.run(
        [BIN / "lab", "demo"],
        env={"PATH": str(empty), "HOME": str(tmp_path), "LAB_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == ExitCode.CONFIG
    assert "rabbitmq-server" in result.stderr
    assert "--containers" in result.stderr
    assert "Traceback" not in result.stderr
