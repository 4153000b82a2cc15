"""The examples of docs/http.md, run verbatim: the door opens only after they have started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.harness.process import free_port
from tests.door import open_door
from tests.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "http.md").read_text()
[README] = re.findall(
    r"## Send requests by HTTP\n\n.*\n\n((?:    .*\n)+)", (ROOT / "README.md").read_text()
)

LANGUAGES = {
    "sh": ("alice", ["bash", "-e"]),
    "python": ("bob", [sys.executable]),
    "js": ("carol", ["node", "--input-type=module", "-"]),
}


def example(language: str) -> str:
    [code] = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(code)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_example_retries_until_it_is_confirmed(pipeline: Pipeline, language: str) -> None:
    client, command = LANGUAGES[language]
    needed = "curl" if language == "sh" else command[0]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed")
    port = free_port()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "DOOR": f"http://127.0.0.1:{port}", "TOKEN": "secret"},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(example(language))
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)  # nothing listens yet
        open_door(pipeline, token="secret", port=port, ready=False)
        assert process.wait(40) == 0
        assert process.stdout is not None
        said = process.stdout.read()
    if language == "sh":
        assert said.splitlines()[-1] == "201"
    pipeline.worker("worker-1")
    [row] = pipeline.wait_served(1)
    assert (row.client, row.counter, row.message) == (client, 1, "hello")


def test_the_command_of_the_readme_sends_a_request(pipeline: Pipeline, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "docker" / "secrets").mkdir(parents=True)
    (tmp_path / "docker" / "secrets" / "door-token").write_text("secret\n")
    door = open_door(pipeline, token="secret")
    command = README.replace("localhost:8000", f"localhost:{door.port}")
    assert command != README
    result = subprocess.run(
        ["bash", "-euc", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout == "", "a 201 has no body, and an error has"
    pipeline.worker("worker-1")
    [row] = pipeline.wait_served(1)
    assert (row.client, row.counter, row.message) == ("alice", 1, "hello")
