"""Contenders in C, compiled when needed: what this machine can do if the language costs nothing."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from lab.bench.contender import Contender, Figures, LeftOut, Setting
from lab.bench.sending import publish
from lab.bench.serving import WORKERS, serve_backlog
from lab.harness.packages import MissingServers
from lab.harness.servers import DEFAULT_FOLDER
from lab.harness.tools import unpacked

_SOURCE = Path(__file__).parent / "native.c"
_PACKAGES = ("librabbitmq-dev", "libmariadb-dev")


def serving(prefetch: int, count: int, size: int = 0) -> Contender:
    """Return a contender: workers in C, for messages of at least ``size`` bytes."""

    def run(setting: Setting) -> Figures:
        program = build()
        with setting.stage() as stage:
            stage.start_native(WORKERS, program, prefetch)
            return serve_backlog(stage, setting.size(count), WORKERS * prefetch, size)

    return run


def publisher(setting: Setting) -> Figures:
    """Publish with a window of unconfirmed requests, and store nothing."""
    count = setting.size(60_000)
    return publish(setting, count, 1000, str(build()), "publish", str(count))


def build() -> Path:
    """Compile the contender once, and return its path. Raises LeftOut if that is impossible."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise LeftOut("this machine has no C compiler")
    folder = DEFAULT_FOLDER / "tools/native"
    try:
        root = unpacked("usr/include/amqp.h", _PACKAGES, folder)
    except MissingServers as error:
        raise LeftOut(str(error)) from error
    program = folder.resolve() / "native"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if program.exists() and program.stat().st_mtime > _SOURCE.stat().st_mtime:
            return program
        [libraries] = {path.parent for path in root.glob("usr/lib/*/librabbitmq.so")}
        command: list[str | Path] = [compiler, "-O2", "-Wall", "-Werror", "-o", program, _SOURCE]
        command += [f"-I{root}/usr/include", f"-I{root}/usr/include/mariadb", f"-L{libraries}"]
        command += [f"-Wl,-rpath,{libraries}", f"-Wl,-rpath-link,{libraries}"]
        command += ["-lrabbitmq", "-lmariadb"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise LeftOut(f"{compiler}: {result.stderr}")
    return program
