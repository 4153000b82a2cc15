"""``python -m turnwise``: prints what is installed, for a bug report."""

from __future__ import annotations

import platform
from importlib import metadata

from turnwise import __version__

DEPENDENCIES = ("click", "pika", "PyMySQL", "tenacity")
EXTRAS = {
    "http": ("httptools", "prometheus-client", "uvicorn", "uvloop"),
    "metrics": ("prometheus-client",),
    "page": ("Flask", "waitress"),
}


def main() -> None:
    """Print the versions of Turnwise, Python and the dependencies, and the installed extras."""
    print(f"turnwise {__version__}")
    print(f"Python {platform.python_version()} on {platform.platform()}")
    for name in DEPENDENCIES:
        print(f"{name} {_version(name) or 'missing'}")
    for extra, names in EXTRAS.items():
        versions = {name: _version(name) for name in names}
        if None in versions.values():
            print(f"turnwise[{extra}] not installed: pip install 'turnwise[{extra}]'")
        else:
            said = ", ".join(f"{name} {version}" for name, version in versions.items())
            print(f"turnwise[{extra}] {said}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
