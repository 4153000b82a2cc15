"""The processes of a trial that serve and send, restarted whenever they end."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from lab.harness.process import Process, free_port, wait_until
from lab.harness.proxy import Proxy
from turnwise.errors import ExitCode

RESTART_AFTER = 0.5
"""Seconds until a process that ended is restarted, as by an orchestrator."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a process: when, how, and whether it was expected."""

    name: str
    at: float
    code: int
    ordered: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used at a moment."""

    name: str
    pid: int
    at: float
    resident: int
    """Bytes."""
    descriptors: int
    threads: int


class Member:
    """A supervised command of the project. Its links to the servers are its own proxies."""

    def __init__(
        self,
        name: str,
        folder: Path,
        command: list[str | Path],
        environment: dict[str, str],
        links: dict[str, Proxy],
    ) -> None:
        self.name = name
        self.links = links
        self.ends: list[End] = []
        self.usages: list[Usage] = []
        self.starts = 0
        self.down_holds = 0
        """How many faults keep it down."""
        self.frozen_holds = 0
        """How many faults keep it frozen."""
        self.disturbed: set[int] = set()
        """The processes that faults have ended or frozen."""
        self.condemned = False
        """Whether its liveness probe has killed it."""
        self.process = Process(name, folder, command, environment)
        self._ordered: frozenset[int] = frozenset()
        self._restart_at: float | None = 0.0

    def order_end(self, *codes: int) -> None:
        """Expect an end with one of these exit codes, as subprocess returns them (-9: SIGKILL)."""
        self._ordered = self._ordered | set(codes)
        self.disturb()

    def disturb(self) -> None:
        """Note that a fault ends or freezes the process."""
        if pid := self.process.pid:
            self.disturbed.add(pid)

    @property
    def ending(self) -> bool:
        """Whether its end is expected."""
        return bool(self._ordered)

    def tick(self, now: float) -> None:
        """Record the process's end; restart it when that is due."""
        if self.process.alive():
            return
        if self._restart_at is None:
            code = self.process.wait(1)
            assert code is not None  # noqa: S101 - it is a child of ours
            name = f"{self.name}, by its liveness probe," if self.condemned else self.name
            self.condemned = False
            self.ends.append(End(name, now, code, code in self._ordered))
            self._ordered = frozenset()
            self._restart_at = now + RESTART_AFTER
        if now >= self._restart_at and not self.down_holds:
            self.start()

    def start(self) -> None:
        """Start the process."""
        self.process.start()
        self.starts += 1
        self._restart_at = None

    def look(self, now: float) -> None:
        """Record the process's memory, descriptors and threads."""
        pid = self.process.pid
        if pid is None:
            return
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            self.usages.append(
                Usage(
                    self.name,
                    pid,
                    now,
                    pages * os.sysconf("SC_PAGE_SIZE"),
                    len(list(Path(f"/proc/{pid}/fd").iterdir())),
                    len(list(Path(f"/proc/{pid}/task").iterdir())),
                )
            )

    @property
    def state(self) -> str:
        """The kernel's state of the process: R, S, D, T (stopped) ...; empty if it is gone."""
        with suppress(OSError):
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
            return stat.rpartition(")")[2].split()[0]
        return ""


class Client(Member):
    """A producer with an outbox of its own, and a ledger of what it accepts.

    A trigger in the outbox writes the ledger, in the same transaction that accepts a request.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        program: Callable[[list[str]], list[str | Path]],
        amqp_url: str,
        links: dict[str, Proxy],
        per_second: float,
        *,
        lines: bool,
        message: Callable[[int], str] | None = None,
    ) -> None:
        self.outbox = folder / f"{name}.db"
        self._program = program
        self._folder = folder
        self._environment = {
            "AMQP_URL": amqp_url,
            "PRODUCER_OUTBOX": str(self.outbox),
            "PRODUCER_CLIENT": name,
        }
        self.port = free_port()
        how = (
            ["--stdin"]
            if lines
            else [
                message(1) if message else f"hello from {name}",
                "--quantum",
                f"{1000 / per_second:.3f}ms",
            ]
        )
        super().__init__(
            name,
            folder,
            program(["producer", "send", "--json", "--http", str(self.port), *how]),
            self._environment,
            links,
        )
        self._lines = lines
        self._message = message or self._noise
        self._per_second = per_second
        self._finishing = False
        self._pipe: int | None = None
        self._number = 0
        self._due = 0.0
        self._rng = random.Random(name)

    def prepare(self) -> None:
        """Create the outbox and its ledger, before anything can be confirmed."""
        message_of_first = self._message(1) if self._message != self._noise else "first"
        away = {**self._environment, "AMQP_URL": f"amqp://127.0.0.1:{free_port()}/"}
        first = Process(
            f"{self.name}-first",
            self._folder,
            self._program(["producer", "send", message_of_first, "--count", "1"]),
            away,
        )
        first.start()
        wait_until(lambda: self.outbox.exists() and self.accepted() == 1, "an outbox", 30, first)
        first.kill()
        with closing(sqlite3.connect(self.outbox)) as db:
            db.executescript("""
                CREATE TABLE ledger (counter INTEGER PRIMARY KEY, message TEXT, sent_at TEXT);
                INSERT INTO ledger SELECT counter, message, sent_at FROM requests;
                CREATE TRIGGER accepted AFTER INSERT ON requests BEGIN
                    INSERT INTO ledger VALUES (NEW.counter, NEW.message, NEW.sent_at);
                END;
            """)

    def start(self) -> None:
        """Start the process, with a new pipe to its standard input if it reads lines.

        Its log goes through a pipe too, so that it can still log when its files may not grow.
        """
        reading = os.open(os.devnull, os.O_RDONLY)
        if self._lines and not self._finishing:
            os.close(reading)
            self.end_of_lines()
            reading, self._pipe = os.pipe()
            os.set_blocking(self._pipe, False)
        told, telling = os.pipe()
        self.process.stdin, self.process.output = reading, telling
        super().start()
        os.close(reading)
        os.close(telling)
        threading.Thread(target=_copy, args=(told, self.process.log), daemon=True).start()

    def feed(self, seconds: float) -> None:
        """Write the lines for so many seconds, if the client reads lines."""
        if self._pipe is None:
            return
        self._due += seconds * self._per_second
        while self._due >= 1:
            self._due -= 1
            self._number += 1
            try:
                os.write(self._pipe, f"{self._message(self._number)}\n".encode())
            except OSError:
                return  # the client is dead, or has not read for a while

    def _noise(self, number: int) -> str:
        noise = self._rng.randbytes(self._rng.randrange(200)).hex()
        return f"{self.name} {number} {noise} ünïcödé 😀"

    def finish(self) -> None:
        """Stop accepting requests; from now on only publish those that wait."""
        self._finishing = True
        self.process.signal(signal.SIGTERM)
        self.process.command = self._program(["producer", "flush", "--json"])

    def tick(self, now: float) -> None:
        """Supervise as for every member; after ``finish()``, flush until nothing waits."""
        if self._finishing:
            self.order_end(ExitCode.OK, ExitCode.WAITING)
            if not self.process.alive() and not self.unsent():
                self.down_holds = 1
        super().tick(now)

    def end_of_lines(self) -> None:
        """Close the client's standard input, if it reads lines."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def accepted(self) -> int:
        """Return the last counter that the client assigned."""
        with closing(sqlite3.connect(self.outbox, timeout=10)) as db:
            (accepted,) = db.execute("SELECT accepted FROM client").fetchone()
        return int(accepted)

    def unsent(self) -> int:
        """Return how many requests are still in the outbox."""
        with closing(sqlite3.connect(self.outbox, timeout=10)) as db:
            (count,) = db.execute("SELECT COUNT(*) FROM requests").fetchone()
        return int(count)

    def waiting(self) -> set[int]:
        """Return the counters that are still in the outbox."""
        with closing(sqlite3.connect(self.outbox, timeout=10)) as db:
            return {counter for (counter,) in db.execute("SELECT counter FROM requests")}

    def ledger(self) -> tuple[str, dict[int, tuple[str, str]]]:
        """Return the client's full name, and what it accepted: (message, sent_at) by counter."""
        with closing(sqlite3.connect(self.outbox, timeout=10)) as db:
            (name,) = db.execute("SELECT name FROM client").fetchone()
            rows = db.execute("SELECT counter, message, sent_at FROM ledger")
            return name, {counter: (message, sent_at) for counter, message, sent_at in rows}


def _copy(source: int, log: Path) -> None:
    with open(source, "rb", buffering=0) as told, log.open("ab") as file:
        while data := told.read(65536):
            file.write(data)
            file.flush()


def last_events(process: Process, size: int = 20_000) -> list[dict[str, object]]:
    """Return the JSON lines at the end of a log."""
    with suppress(OSError), process.log.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - size))
        lines = log.read().decode(errors="replace").splitlines()
        return [json.loads(l) for l in lines if l.startswith("{") and l.endswith("}")]  # noqa: E741
    return []
