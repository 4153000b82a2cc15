"""The project's own commands as processes of the lab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.harness.errors import LabError
from lab.harness.process import Process, wait_until

BIN = Path(sys.executable).parent
READY_TIMEOUT = 60.0


def start(
    name: str,
    folder: Path,
    command: list[str],
    environment: Mapping[str, str],
    *,
    attached: bool = True,
) -> Process:
    """Start one of the project's commands, with its log in ``folder``."""
    program, *arguments = command
    process = Process(name, folder, [BIN / program, *arguments], environment, attached=attached)
    process.start()
    return process


def run(command: list[str], environment: Mapping[str, str]) -> Any:
    """Run one of the project's commands; return the JSON it wrote. Raises LabError if it fails."""
    result = _execute(command, environment)
    if not result.stdout:
        raise LabError(f"{' '.join(command)}: {result.stderr.strip()}")
    return json.loads(result.stdout)


def finish(command: list[str], environment: Mapping[str, str]) -> None:
    """Run one of the project's commands. Raises LabError if it fails."""
    result = _execute(command, environment)
    if result.returncode:
        raise LabError(f"{' '.join(command)}: {result.stderr.strip()}")


def _execute(
    command: list[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    return subprocess.run(
        [BIN / program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def start_worker(
    name: str,
    folder: Path,
    environment: Mapping[str, str],
    *options: str,
    attached: bool = True,
) -> Process:
    """Start a worker, without waiting until it is ready."""
    return start(
        name,
        folder,
        ["worker", "run", "--name", name, *options],
        {"LOG_FORMAT": "json", **environment},
        attached=attached,
    )


def start_dashboard(
    folder: Path, environment: Mapping[str, str], port: int, *, attached: bool = True
) -> Process:
    """Start the page, without waiting until it is ready."""
    return start(
        "dashboard",
        folder,
        ["dashboard", "--port", str(port)],
        {"LOG_FORMAT": "json", **environment},
        attached=attached,
    )


def events(process: Process) -> list[dict[str, Any]]:
    """Return the JSON lines in a command's log so far."""
    if not process.log.exists():
        return []
    lines = process.log.read_text().splitlines()
    # The last line may be half written.
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def wait_event(
    process: Process, event: str, times: int = 1, timeout: float = READY_TIMEOUT
) -> None:
    """Wait until a process has logged an event ``count`` times."""
    wait_until(
        lambda: len([e for e in events(process) if e["event"] == event]) >= times,
        f"{process.name}: {event}",
        timeout,
        process,
    )
