"""``lab up`` and ``lab down`` when interrupted, or in a folder that cannot be used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from lab.harness.commands import BIN
from lab.harness.process import Process, wait_until
from lab.harness.servers import Servers
from tests.laboratory import lab, share_packages
from turnwise.errors import ExitCode

SECONDS = (0.0, 0.05, 0.3, 1.0, 1.5, 2.0, 2.7, 3.5, 5.0)
"""From the first line it prints to the signal."""


@pytest.fixture
def folder(servers: Servers, tmp_path: Path) -> Iterator[Path]:
    """Yield a folder for the lab that reuses the servers' programs already fetched."""
    share_packages(servers, tmp_path)
    yield tmp_path
    lab("down", "--purge", folder=tmp_path)


def running(folder: Path) -> list[str]:
    """Return the processes that were started for the folder, or that name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            about = command + b"\0" + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in about and process.name != str(os.getpid()):
            found.append(command.replace(b"\0", b" ").decode())
    return found


def up(folder: Path, number: int) -> Process:
    process = Process(f"up-{number}", folder, [BIN / "lab", "up"], {"LAB_FOLDER": str(folder)})
    process.start()
    wait_until(lambda: "page" in process.log.read_text(), "it begins", 30, process)
    return process


@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing_running(folder: Path, number: signal.Signals) -> None:
    """Interrupted at any moment, repeatedly in the same folder; afterwards it starts normally."""
    broken_off = 0
    for round_, seconds in enumerate(SECONDS):
        process = up(folder, round_)
        time.sleep(seconds)  # the instant is what the test varies
        process.signal(number)
        code = process.wait(60)
        assert "Traceback" not in process.log.read_text()
        if code == 0:
            lab("down", folder=folder)
            continue
        broken_off += 1
        assert code in {128 + number, -number}, process.log.read_text()
        wait_until(lambda: not running(folder), f"nothing runs: {running(folder)}", 30)
        status = lab("status", folder=folder, code=ExitCode.FAILED)
        assert "nothing is up" in status.stdout
        if round_ % 3 == 2:
            lab("down", folder=folder)
    assert broken_off >= 3
    lab("up", "--workers", "1", folder=folder)
    assert "worker-1" in lab("status", folder=folder).stdout
    lab("down", "--purge", folder=folder)
    assert not (folder / "up").exists()
    assert not running(folder)


@pytest.mark.timeout(400)
def test_a_purge_cleans_up_after_a_killed_start(folder: Path) -> None:
    for round_, seconds in enumerate((0.0, 1.5, 4.0)):
        process = up(folder, round_)
        time.sleep(seconds)
        process.kill()
        lab("down", "--purge", folder=folder)
        assert not (folder / "up").exists()
        wait_until(lambda: not running(folder), f"nothing runs: {running(folder)}", 30)


KILLED_WHILE_IT_STARTS = """
import os, signal, subprocess, sys
from pathlib import Path
from lab.harness.process import Process

class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

subprocess.Popen = Popen
folder = sys.argv[1]
Process("it", Path(folder), ["sleep", "1000"], {"LAB_FOLDER": folder}, attached=False).start()
"""


def test_a_process_just_started_by_a_killed_start_is_found(folder: Path) -> None:
    """The narrowest window: the process exists, and its parent is gone."""
    script = [sys.executable, "-c", KILLED_WHILE_IT_STARTS, str(folder)]
    assert subprocess.run(script, check=False).returncode == -signal.SIGKILL
    sleeper = Process("it", folder, [])
    wait_until(sleeper.alive, "the sleeper is found", 30)
    assert running(folder)
    sleeper.kill()
    assert not running(folder)


def test_status_names_a_server_that_is_down(folder: Path) -> None:
    lab("up", "--workers", "1", folder=folder)
    Process("rabbitmq", folder / "up" / "rabbitmq", []).kill()
    status = lab("status", folder=folder, code=ExitCode.FAILED).stdout
    assert "RabbitMQ       is down" in status
    assert "worker-1" in status
    assert "served         0" in status
    assert "MariaDB" in status
    lab("up", "--workers", "1", folder=folder)
    said = lab("status", folder=folder).stdout
    assert "is down" not in said
    # Anyone who has the link can act on the running page.
    [link] = [line.split()[-1] for line in said.splitlines() if "as operator" in line]
    assert link.startswith("http://127.0.0.1:")
    address, token = link.split("login#token=")
    form = urlencode({"do": "drop", "sure": "yes"}).encode()
    login = {"Authorization": f"Bearer {token}"}
    asked = Request(f"{address}failures?which=all", form, login)  # noqa: S310
    with urlopen(asked, timeout=30) as answer:  # noqa: S310
        assert "/actions/1" in answer.url


def test_a_folder_with_a_space_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    folder = tmp_path / "a space"
    for command in ("up", "demo"):
        result = lab(command, folder=folder, code=ExitCode.CONFIG)
        assert "space" in result.stderr
        assert "--folder" in result.stderr
        assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "lab", Path("/proc/lab")):
        result = lab("up", folder=folder, code=ExitCode.CONFIG)
        assert "cannot write into" in result.stderr


@pytest.fixture
def small_disk(servers: Servers, tmp_path: Path) -> Iterator[Path]:
    """Yield a file system with room only for the beginning of a start."""
    if os.geteuid():
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", disk], check=True)
    packages = servers.folder.parent / "packages"
    if packages.exists():
        (disk / "packages").symlink_to(packages.resolve())
    yield disk
    subprocess.run(["/bin/umount", "--lazy", disk], check=True)


def test_a_full_disk_is_refused_and_one_that_fills_up_ends_the_start(
    small_disk: Path,
) -> None:
    result = lab("up", folder=small_disk, code=ExitCode.CONFIG)
    assert "has room for" in result.stderr
    assert not running(small_disk)
    # A disk that fills up during the start.
    enough = {"LAB_FOLDER": str(small_disk), "PYTHONPATH": str(small_disk)}
    (small_disk / "sitecustomize.py").write_text("import lab.harness.files\nlab.files.SPACE = 0\n")
    process = Process("up", small_disk.parent, [BIN / "lab", "up"], enough)
    process.start()
    assert process.wait(100) == ExitCode.CONFIG, process.log.read_text()
    assert "Traceback" not in process.log.read_text()
    wait_until(lambda: not running(small_disk), "nothing runs", 10)
    lab("down", "--purge", folder=small_disk)
    assert not (small_disk / "up").exists()
