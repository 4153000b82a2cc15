"""Processes of the lab: started, watched, stopped, and never mistaken for another process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lab.harness.errors import LabError

NOTE_TIMEOUT = 30.0
"""Seconds for a process to start: enough on an overloaded machine."""

# A process writes its ID and start time to a file before it becomes the program, which changes
# neither. Its parent may be killed at any moment, and the process must be found again.
_NOTING = ("sh", "-c", 'cp "/proc/$$/stat" "$0.new" && mv "$0.new" "$0" && exec "$@"')


class Runner(Protocol):
    """Something that runs a server: a process, or a container."""

    def start(self) -> None:
        """Start the server; it need not be ready yet."""

    def stop(self, timeout: float) -> None:
        """Stop the server gracefully, and wait for its end."""

    def kill(self) -> None:
        """Kill the server with SIGKILL, and wait for its end."""

    def pause(self) -> None:
        """Freeze the server (SIGSTOP)."""

    def resume(self) -> None:
        """Resume the server (SIGCONT)."""

    def alive(self) -> bool:
        """Whether it runs."""

    def identity(self) -> str:
        """Return something that changes at a restart: a process id with its start time."""

    def last_words(self) -> str:
        """Return the last lines of its log, for error messages."""


class Process:
    """A program in the background, with a log and a file that identifies the process.

    If ``attached``, it dies with this process, even on SIGKILL. Otherwise it continues, and another
    Process with the same folder and name finds it again.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        *,
        attached: bool = True,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._note = folder / f"{name}.pid"
        self.command: Sequence[str | Path] = command
        self.environment: Mapping[str, str] = environment or {}
        """Variables in addition to those of this process."""
        self.stdin: int = subprocess.DEVNULL
        """A descriptor for its standard input."""
        self.output: int | None = None
        """A descriptor for its standard output and error; None: its log."""
        self._attached = attached
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program. Raises LabError if it runs already."""
        if self.alive():
            raise LabError(f"{self.name} is already running (process {self.pid})")
        # The kernel sends the signal when the starting thread ends, so start it from the main
        # thread.
        tie = ["setpriv", "--pdeathsig", "KILL", "--"] if self._attached else []
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # A signal in here would leave an unknown process behind.
        with self.log.open("ab") as log, uninterrupted():
            self._child = subprocess.Popen(
                [*tie, *_NOTING, self._note, *map(str, self.command)],
                stdin=self.stdin,
                stdout=log if self.output is None else self.output,
                stderr=log if self.output is None else self.output,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
            child = self._child
            wait_until(
                lambda: self._noted() == child.pid or child.poll() is not None,
                f"{self.name} notes who it is",
                NOTE_TIMEOUT,
                interval=0.001,
            )

    @property
    def pid(self) -> int | None:
        """The process id, as long as it belongs to the process that was started; otherwise None."""
        if self._child is not None:
            return self._child.pid if self._child.poll() is None else None
        return self._noted()

    def _noted(self) -> int | None:
        try:
            note = self._note.read_text()
            pid = int(note.split()[0])
            return pid if _start_time(pid) == _read_start_time(note) else None
        except (OSError, ValueError, IndexError):
            return None  # or a server's own file of that name

    def alive(self) -> bool:
        """Whether it runs."""
        if self._child is not None:
            return self._child.poll() is None
        return self.pid is not None

    def identity(self) -> str:
        """Return the process id and the start time."""
        pid = self.pid
        return f"{pid}@{_start_time(pid)}" if pid else "none"

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if it runs."""
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, timeout: float) -> int | None:
        """Wait for the end; return the exit code as subprocess does, if it is a child of ours."""
        if self._child is not None:
            return self._child.wait(timeout)
        pid = self.pid
        if pid is None:
            return None
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        with os.fdopen(descriptor):
            if not select.select([descriptor], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.name, timeout)
        return None

    def stop(self, timeout: float) -> None:
        """Send SIGTERM, and SIGKILL if it still runs after ``timeout`` seconds."""
        self.signal(signal.SIGTERM)
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self.signal(signal.SIGKILL)
        self.wait(10)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP)."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the process (SIGCONT)."""
        self.signal(signal.SIGCONT)

    def last_words(self) -> str:
        """Return the last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        return ""


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM until the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], object],
    what: str,
    timeout: float,
    runner: Runner | None = None,
    interval: float = 0.02,
) -> None:
    """Poll until the condition holds. Raises LabError on a timeout, or if the process died."""
    deadline = time.monotonic() + timeout
    while not condition():
        if runner is not None and not runner.alive():
            raise LabError(f"{what}: it ended. Its last output:\n{runner.last_words()}")
        if time.monotonic() > deadline:
            words = f" Its last output:\n{runner.last_words()}" if runner else ""
            raise LabError(f"{what}: not within {timeout:.0f} s.{words}")
        time.sleep(interval)


def answers(port: int) -> bool:
    """Return whether a program listens on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _start_time(pid: int) -> str | None:
    """Return when a process was started, in clock ticks since boot; None if it is gone."""
    try:
        return _read_start_time(Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return None


def _read_start_time(stat: str) -> str | None:
    # The name in parentheses may hold anything; state is the field after it.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
