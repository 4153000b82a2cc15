"""Files that are written whole or not at all, and the folder for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from lab.harness.errors import LabError

SPACE = 500 * 1024 * 1024
"""Bytes that the servers need for their initial data, and some for requests."""


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file atomically: if that fails, the old one stays."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def prepare_folder(folder: Path) -> None:
    """Create a folder for servers. Raises LabError if it cannot hold them."""
    if " " in str(folder.resolve()):
        raise LabError(
            f"RabbitMQ's scripts cannot cope with the space in {str(folder.resolve())!r}: name "
            "another place with --folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "writable", "")
        (folder / "writable").unlink()
    except OSError as error:
        raise LabError(
            f"cannot write into {folder}: {error.strerror}. Name another place with --folder"
        ) from error
    free = shutil.disk_usage(folder).free
    if free < SPACE:
        raise LabError(
            f"{folder} has room for {free // 2**20} MiB, and servers need {SPACE // 2**20}: make "
            "room, or name another place with --folder"
        )
