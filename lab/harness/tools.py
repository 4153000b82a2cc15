"""The tests' tools: those of the machine, or unpacked from the distribution's packages.

They have a folder of their own, since a running server's files must not move.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.harness.packages import unpack

CHROMIUM_PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core")

_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser, its driver, and the variables that both need to find their libraries."""

    browser: Path
    driver: Path
    environment: Mapping[str, str]


def chromium(folder: Path) -> Chromium:
    """Return Chromium, unpacked into ``folder`` if this machine has none.

    Raises MissingServers where it cannot be had.
    """
    installed = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if all(installed):
        return Chromium(Path(str(installed[0])), Path(str(installed[1])), os.environ)
    root = unpacked("usr/lib/chromium/chromium", CHROMIUM_PACKAGES, folder / "chromium")
    fonts = root.parent / "fonts.conf"  # a relative path would be looked up in /etc/fonts
    fonts.write_text(
        _FONTS.format(fonts=root / "usr/share/fonts", cache=root.parent / "font-cache")
    )
    libraries = sorted({str(path.parent) for path in root.glob("**/lib/*-linux-*/**/*.so*")})
    return Chromium(
        root / "usr/lib/chromium/chromium",
        root / "usr/bin/chromedriver",
        {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(libraries),
            "FONTCONFIG_FILE": str(fonts),
        },
    )


def promtool(folder: Path) -> Path:
    """Return Prometheus' own tool, unpacked into ``folder`` if this machine has none.

    Raises MissingServers where it cannot be had.
    """
    return _program("promtool", "prometheus", folder)


def strace(folder: Path) -> Path:
    """Return strace, unpacked into ``folder`` if this machine has none.

    Raises MissingServers where it cannot be had.
    """
    return _program("strace", "strace", folder)


def _program(name: str, package: str, folder: Path) -> Path:
    """Return a program that needs no libraries from other packages."""
    installed = shutil.which(name)
    if installed:
        return Path(installed)
    return unpacked(f"usr/bin/{name}", [package], folder / package) / "usr/bin" / name


def unpacked(program: str, packages: Sequence[str], folder: Path) -> Path:
    """Return the root of the packages with ``program``; unpack them into ``folder`` once."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.resolve() / "root"
    with (folder / "lock").open("w") as lock:
        # Another process that starts here meanwhile waits, and finds it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / program).exists():
            unpack(packages, folder)
    return root
