"""The tutorial, as a newcomer types it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from lab.harness.commands import BIN
from lab.harness.servers import Servers
from tests.laboratory import share_packages

ROOT = Path(__file__).parent.parent.parent
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()


@pytest.mark.timeout(300)
def test_the_tutorial_ends_as_described(servers: Servers, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    share_packages(servers, lab)
    script = "".join(re.findall(r"^```sh\n(.*?)^```\n", TUTORIAL, re.DOTALL | re.MULTILINE))
    script = script.replace(". .venv/bin/activate", f"export PATH={BIN}:$PATH")
    # Leave nothing running, whatever fails.
    script = f"trap 'kill $(jobs -p) 2>/dev/null || :; lab down --purge' EXIT\n{script}"
    result = subprocess.run(
        ["/bin/bash", "-eux", "-o", "pipefail", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "LAB_FOLDER": str(lab),
            # Where an outbox would be that does not belong to the lab.
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PRODUCER_CLIENT": "player",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout
    assert re.search(r"^15$", result.stdout, re.MULTILINE), result.stdout
    assert re.search(r"^player-\w+ +5 +5 +0 ", result.stdout, re.MULTILINE), result.stdout
    assert "first" in result.stdout
    assert "second" in result.stdout
    assert "these are no points" in result.stdout
    assert not (tmp_path / "state").exists()
    assert not [*tmp_path.glob("*.py"), *tmp_path.glob("*.log")], "something is left"
