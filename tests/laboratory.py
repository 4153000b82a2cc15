"""The command ``lab`` in the test's own folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lab.harness.commands import BIN
from lab.harness.servers import Servers


def lab(
    *command: str, folder: Path, code: int = 0, timeout: float = 110
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which must have this exit code."""
    result = subprocess.run(
        [BIN / "lab", *command],
        env={**os.environ, "LAB_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == code, f"{result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def share_packages(servers: Servers, folder: Path) -> None:
    """Let a lab in this folder reuse the servers' programs already fetched."""
    packages = servers.folder.parent / "packages"
    if packages.exists():
        (folder / "packages").symlink_to(packages.resolve())
