"""The servers' programs: those of the machine, or the distribution's packages unpacked in a folder.

Unpacking needs no root and leaves the system as it is: no service is installed, none is started.
Only the standard library is used here: it runs before the virtual environment is there.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# What a private instance needs. It needs nothing else that these packages recommend.
RABBITMQ_PACKAGES = ("rabbitmq-server",)
DATABASE_PACKAGES = ("mariadb-server-core", "mariadb-client-core")

# Parts of the running system, which must never be shadowed by another version.
_NEVER = frozenset({"libc6", "libc-bin", "libcrypt1", "libgcc-s1", "libstdc++6", "dpkg", "apt"})

_SCRIPT_SIZE = 100_000
"""Bytes; a larger file is a program, not a script."""


class MissingServers(Exception):
    """The servers' programs are not on this machine, and cannot be fetched."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The servers' programs. ``root`` is ``/``, or the folder they were unpacked into."""

    root: Path

    @property
    def rabbitmq_server(self) -> Path:
        """RabbitMQ's own start script; Debian's wrapper around it insists on a system user."""
        return self.root / "usr/lib/rabbitmq/bin/rabbitmq-server"

    @property
    def erlang(self) -> Path:
        """The folder of ``erl`` and ``epmd``."""
        return self.root / "usr/lib/erlang/bin"

    @property
    def mariadbd(self) -> Path:
        """MariaDB's server."""
        return self.root / "usr/sbin/mariadbd"

    @property
    def mariadb_install_db(self) -> Path:
        """The program that creates a data folder."""
        return self.root / "usr/bin/mariadb-install-db"

    def environment(self) -> dict[str, str]:
        """Return the variables that unpacked programs need to find their libraries."""
        if self.root == Path("/"):
            return {}
        folders = sorted({str(path.parent) for path in self.root.glob("**/lib/**/*.so*")})
        libraries = [f for f in folders if re.search(r"/lib/[^/]+-linux-[^/]+$", f)]
        return {"LD_LIBRARY_PATH": ":".join(libraries)}

    def have_rabbitmq(self) -> bool:
        """Return whether RabbitMQ and Erlang exist."""
        return self.rabbitmq_server.exists() and (self.erlang / "erl").exists()

    def have_database(self) -> bool:
        """Return whether MariaDB exists."""
        return self.mariadbd.exists() and self.mariadb_install_db.exists()


def find(folder: Path) -> tuple[Programs, Programs]:
    """Return the programs of RabbitMQ and of MariaDB; unpack missing ones into ``folder``.

    Raises MissingServers if they cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Another process that starts here meanwhile waits, and finds them.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _find(folder)


def require(folder: Path) -> None:
    """Raise MissingServers if the programs do not exist and cannot be fetched."""
    if wanted := _wanted(folder):
        _require_tools(wanted)


def _wanted(folder: Path) -> list[str]:
    system, unpacked = Programs(Path("/")), Programs(folder / "root")
    wanted: list[str] = []
    if not (system.have_rabbitmq() or unpacked.have_rabbitmq()):
        wanted += RABBITMQ_PACKAGES
    if not (system.have_database() or unpacked.have_database()):
        wanted += DATABASE_PACKAGES
    return wanted


def _require_tools(packages: Sequence[str]) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise MissingServers(
            f"{', '.join(packages)}: missing, and this machine has no apt-get to fetch them with"
        )


def _find(folder: Path) -> tuple[Programs, Programs]:
    system, unpacked = Programs(Path("/")), Programs(folder / "root")
    if wanted := _wanted(folder):
        _say(
            f"This machine has no {' and no '.join(_names(wanted))}. Unpacking the distribution's "
            f"packages into {folder}: private to this project, and gone with the folder; nothing "
            "is installed, and no service is started."
        )
        unpack(wanted, folder)
        _relocate(unpacked)
    return (
        system if system.have_rabbitmq() else unpacked,
        system if system.have_database() else unpacked,
    )


def unpack(packages: Sequence[str], folder: Path) -> None:
    """Fetch packages and what they need beyond the installed ones; unpack into ``folder/root``."""
    _require_tools(packages)
    (folder / "debs").mkdir(parents=True, exist_ok=True)
    try:
        fetched = _fetch(packages, folder, [])
    except subprocess.CalledProcessError:
        # The package lists are missing or old: fetch lists of our own, which needs no root either.
        own = _own_lists(folder)
        try:
            _apt(["update", "-qq", *own], folder)
            fetched = _fetch(packages, folder, own)
        except subprocess.CalledProcessError as error:
            raise MissingServers(
                f"{', '.join(packages)}: apt-get cannot fetch them:\n{error.stderr.strip()}"
            ) from error
    root = folder / "root.new"
    shutil.rmtree(root, ignore_errors=True)
    if (folder / "root").exists():
        (folder / "root").rename(root)
    root.mkdir(exist_ok=True)
    for package in fetched:
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    root.rename(folder / "root")
    shutil.rmtree(folder / "debs")


def _fetch(packages: Sequence[str], folder: Path, options: Sequence[str]) -> list[Path]:
    plan = _apt(["install", "--simulate", "--no-install-recommends", *options, *packages], folder)
    # Inst NAME [OLD] (VERSION ORIGIN [ARCHITECTURE])
    needed = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", plan, re.MULTILINE)
    names = [f"{name}={version}" for name, version in needed if name.split(":")[0] not in _NEVER]
    _say(f"Fetching {len(names)} packages: {', '.join(name.split('=')[0] for name in names)}")
    _apt(["download", "-qq", *options, *names], folder)
    return sorted((folder / "debs").glob("*.deb"))


def _own_lists(folder: Path) -> list[str]:
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (cache / "archives/partial").mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={lists.resolve()}", "-o", f"Dir::Cache={cache.resolve()}"]


def _apt(arguments: Sequence[str], folder: Path) -> str:
    # apt's sandbox user may not write into our folder.
    return subprocess.run(
        ["apt-get", "-o", "APT::Sandbox::User=root", *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder / "debs",
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    ).stdout


def _relocate(programs: Programs) -> None:
    """Let Erlang's start scripts find themselves where they were unpacked."""
    library = str(programs.root.resolve() / "usr/lib/erlang")
    for script in programs.root.glob("usr/lib/erlang/**/bin/*"):
        if script.is_symlink() or not script.is_file() or script.stat().st_size > _SCRIPT_SIZE:
            continue
        text = script.read_bytes()
        if text.startswith(b"#!") and b"=/usr/lib/erlang" in text:
            script.write_bytes(text.replace(b"=/usr/lib/erlang", b"=" + library.encode()))


def _names(packages: Iterable[str]) -> list[str]:
    names = {"rabbitmq-server": "RabbitMQ", "mariadb-server-core": "MariaDB"}
    return [names[package] for package in packages if package in names]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
