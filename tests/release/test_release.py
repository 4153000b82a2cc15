"""The packages of a release: built, checked, and installed in an empty environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from turnwise import __version__

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ("producer", "worker")


def run(*command: str | Path, code: int = 0) -> str:
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    return built / f"turnwise-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The commands of an environment that holds the wheel and what it requires, no extra."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/pip", "install", "--quiet", wheel)
    return folder / "bin"


def test_the_wheel_contains_only_what_is_to_be_installed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    info = f"turnwise-{__version__}.dist-info"
    assert tops == {"turnwise", "producer", "worker", "dashboard", info}
    assert f"{info}/licenses/LICENSE" in names
    assert "turnwise/py.typed" in names


def test_the_source_distribution_contains_the_tests(built: Path) -> None:
    with tarfile.open(built / f"turnwise-{__version__}.tar.gz") as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "lab/cli.py", "tests/conftest.py"} <= names


def test_the_package_index_would_accept_the_release(built: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_shows_help_without_the_extras(bare: Path, program: str) -> None:
    listed = run(bare / program, "--help").partition("Commands:")[2].splitlines()
    names = [line.split()[0] for line in listed if line[:2] == "  " and line[2:3].strip()]
    assert len(names) > 2
    for name in names:
        assert f"Usage: {program} {name}" in run(bare / program, name, "--help")


def test_a_missing_extra_is_named(bare: Path) -> None:
    assert "Usage: dashboard" in run(bare / "dashboard", "--help")
    said = run(bare / "dashboard", "--mysql-url", "mysql://u:p@localhost/d", code=78)
    assert "pip install 'turnwise[page]'" in said
    said = run(bare / "producer", "serve", "--amqp-url", "amqp://localhost", code=78)
    assert "pip install 'turnwise[http]'" in said
    assert "Traceback" not in said
    assert "turnwise[page] not installed" in run(bare / "python", "-m", "turnwise")


def test_the_page_can_be_imported_with_its_extra(bare: Path, wheel: Path) -> None:
    run(bare / "pip", "install", "--quiet", f"{wheel}[page,metrics]")
    run(bare / "python", "-c", "import dashboard.server")
