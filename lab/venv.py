"""python3 -m lab.venv FOLDER: a virtual environment with this project in it, on a bare machine.

Debian keeps pip out of ``python3 -m venv`` unless python3-venv is installed. Without it, this
unpacks Debian's package of wheels, which needs no root. It uses only the standard library.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

from lab.harness.packages import MissingServers, unpack

OLDEST = (3, 11)


def main(folder: Path, packages: Path) -> None:
    """Create ``folder``, or bring it up to date."""
    if sys.version_info < OLDEST:
        sys.exit(
            f"Python {'.'.join(map(str, OLDEST))} or later is needed, and {sys.executable} is "
            f"{sys.version.split()[0]}. Name another one: make PYTHON=/path/to/python3"
        )
    python = folder / "bin" / "python"
    if not python.exists():
        has_pip = importlib.util.find_spec("ensurepip") is not None
        venv.create(folder, with_pip=has_pip, symlinks=True)
        if not has_pip:
            _install_pip(python, packages)
    print("Installing the project and its tools into", folder, flush=True)
    _pip([str(python), "-m", "pip"], "--editable", ".[metrics,page]", "--editable", "lab[dev]")


def _install_pip(python: Path, packages: Path) -> None:
    try:
        unpack(["python3-pip-whl"], packages)
    except MissingServers as error:
        sys.exit(f"Python has no pip here. Install python3-venv, then try again.\n{error}")
    wheel = next(packages.glob("root/usr/share/python-wheels/pip-*.whl"))
    _pip([str(python), f"{wheel}/pip"], "pip")


def _pip(pip: list[str], *what: str) -> None:
    command = [*pip, "install", "--quiet", "--disable-pip-version-check", *what]
    if subprocess.run(command, check=False).returncode:
        sys.exit("pip could not install what is needed; see above")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
