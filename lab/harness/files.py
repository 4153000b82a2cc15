"""Files that are there whole or not at all, and a folder that can hold them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from lab.harness.errors import LabError

SPACE = 500 * 1024 * 1024
"""Bytes that servers with their first data need, and some for what is sent to them."""


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file, or leave the one that was there."""
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
    """Make a folder for servers. Raises LabError if it cannot hold them."""
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
