"""One stack for all tests of the containers; each test leaves it fully running."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from lab.harness import containers
from tests.containers.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if not containers.available():
        pytest.skip("no Docker daemon answers")
    if subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("Docker has no compose plugin")
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack
