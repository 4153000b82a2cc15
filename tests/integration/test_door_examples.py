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

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text()

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
