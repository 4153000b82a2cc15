"""The demo: two replicas take turns, the broker restarts, a replica is killed; nothing is lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lab.harness import commands
from lab.harness.database import NAME
from lab.harness.process import Process, wait_until
from lab.harness.servers import Servers
from lab.trial.check import farthest_ahead

COUNT = 30
"""The number of requests, one per second."""
_KILL_AT, _RESTART_AT = 7, 12
"""The number of served requests at which a replica is killed, and the broker restarted."""
REPLICAS = ("worker-1", "worker-2")
_COLOURS = {"worker-1": "cyan", "worker-2": "yellow"}
_AWAY = 3.0
"""Seconds that the broker stays away after it has ended."""
IN_HANDS = len(REPLICAS) + 1
"""The most requests that are held at once: one for each replica, and one of a killed replica."""
_FROZEN = 0.15
"""Seconds after which an unserved request must be with the frozen replica."""


@dataclass(frozen=True, slots=True)
class Served:
    """A row of the table."""

    client: str
    counter: int
    message: str
    served_at: datetime
    served_by: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class Break:
    """A fault, and the rows that existed at that moment."""

    what: str
    before: frozenset[int]

    @property
    def expected(self) -> int:
        """The counter to resume at: the lowest that was not served."""
        return next(n for n in itertools.count(1) if n not in self.before)

    def resumed_with(self, rows: Sequence[Served]) -> list[int]:
        """Return the counters served after the fault, up to and including the expected one."""
        after = [row.counter for row in rows if row.counter not in self.before]
        return after[: after.index(self.expected) + 1] if self.expected in after else after

    def tell(self, rows: Sequence[Served]) -> str:
        """Return a line that reports where serving resumed."""
        first = self.resumed_with(rows)
        if first == [self.expected]:
            return f"after {self.what}, serving resumed at {self.expected}, the first not served"
        return (
            f"after {self.what}, serving resumed with {', '.join(map(str, first))}: each replica "
            "holds one, and the first to commit is first"
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """The client's own report."""

    accepted: int = 0
    confirmed: int = 0


def in_order(rows: Sequence[Served], in_hands: int) -> bool:
    """Return whether serving was ahead by held requests only, which is the trials' rule."""
    return all(ahead <= in_hands for _, ahead, _ in farthest_ahead(rows))


class Demo:
    """One run, on fresh servers in ``folder``."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._environment = {
            "AMQP_URL": servers.rabbitmq.url(),
            "MYSQL_URL": servers.database.url(),
            "PRODUCER_OUTBOX": str(folder / "outbox.db"),
            "PRODUCER_CLIENT": "demo",
        }
        self._sender: Process | None = None
        self._replicas: dict[str, Process] = {}
        self._shown = 0
        self._accepted_shown = 0
        self._breaks: list[Break] = []
        self._alone = 0
        """The number of requests served while one replica was frozen or dead."""

    def run(self) -> bool:
        """Run and show the demo; return whether every promise held."""
        for name in REPLICAS:
            self._replicas[name] = self._start(name)
        for replica in self._replicas.values():
            commands.wait_event(replica, "worker.consuming")
        click.echo(f"{'served at':<15}  {'counter':>7}  {'message':<10}  {'replica':<9}  waiting")
        self._sender = sender = commands.start(
            "producer",
            self._folder,
            ["producer", "send", "hello", "--count", str(COUNT), "--quantum", "1s", "--json"],
            self._environment,
        )  # fmt: skip
        self._watch_until(lambda: len(self._rows()) >= _KILL_AT)
        self._kill_a_replica()
        self._watch_until(lambda: len(self._rows()) >= _RESTART_AT)
        self._restart_broker()
        self._watch_until(lambda: len(self._rows()) >= COUNT and not sender.alive())
        return self._report()

    # -- faults

    def _restart_broker(self) -> None:
        self._note("red", "RabbitMQ is restarted: every connection is cut.")
        ending = threading.Thread(target=self._servers.rabbitmq.stop)
        ending.start()
        self._watch_until(lambda: not ending.is_alive())
        away = time.monotonic() + _AWAY
        self._watch_until(lambda: time.monotonic() > away)
        # A held request may have been committed before the restart, without its ack.
        before = self._rows()
        self._servers.rabbitmq.runner.start()
        self._breaks.append(Break("RabbitMQ was restarted", _counters(before)))
        self._watch_until(lambda: len(self._rows()) > len(before))
        self._note("green", "RabbitMQ is back; what waited in the outbox is delivered.")

    def _kill_a_replica(self) -> None:
        """Freeze the replica whose turn is next, so that it holds a request; then kill it."""
        rows = self._rows()
        [name] = set(REPLICAS) - {rows[-1].served_by}
        replica = self._replicas[name]
        frozen_at = len(rows)
        replica.pause()
        stuck_since: list[float] = []

        def in_hand() -> bool:
            if self._sent().confirmed <= len(self._rows()):
                stuck_since.clear()
                return False
            stuck_since.append(time.monotonic())
            return time.monotonic() - stuck_since[0] > _FROZEN

        self._watch_until(in_hand)
        before = self._rows()
        replica.kill()
        broken = Break(f"{name} was killed", _counters(before))
        self._breaks.append(broken)
        self._note("red", f"{name} is killed (SIGKILL) while it holds request {broken.expected}.")
        self._watch_until(lambda: len(self._rows()) > len(before))
        self._replicas[name] = self._start(name)
        commands.wait_event(self._replicas[name], "worker.consuming", times=2)
        self._alone = len(self._rows()) - frozen_at
        self._note("green", f"{name} is back.")

    # -- output

    def _watch_until(self, condition: Any) -> None:
        def look() -> bool:
            done = bool(condition())
            self._show()  # including the row that fulfilled it
            return done

        wait_until(look, "the demo goes on", 120)

    def _show(self) -> None:
        # In this order, since rows were accepted before. (The client reports a moment later.)
        rows = self._rows()
        sent = self._sent()
        for row in rows[self._shown :]:
            clock = row.served_at.replace(tzinfo=UTC).astimezone().strftime("%H:%M:%S.%f")
            repeated = f"  delivered {row.deliveries} times" if row.deliveries > 1 else ""
            replica = click.style(f"{row.served_by:<9}", fg=_COLOURS[row.served_by])
            click.echo(
                f"{clock:<15}  {row.counter:>7}  {row.message:<10}  {replica}  "
                f"{max(0, sent.accepted - row.counter)}{repeated}"
            )
        self._shown = len(rows)
        waiting = sent.accepted - len(rows)
        if sent.accepted > self._accepted_shown and waiting > 1:
            clock = datetime.now().astimezone().strftime("%H:%M:%S")
            click.secho(f"{clock:<15}  {sent.accepted:>7}  accepted, {waiting} waiting", dim=True)
        self._accepted_shown = sent.accepted

    @staticmethod
    def _note(colour: str, text: str) -> None:
        clock = datetime.now().astimezone().strftime("%H:%M:%S")
        click.secho(f"{clock:<15}  {text}", fg=colour, bold=True)

    def _report(self) -> bool:
        rows = self._rows()
        found = commands.run(["worker", "audit", "--json"], self._environment)
        [account] = found["clients"]
        click.echo()
        click.echo("served {served}, missing {missing}, repeated {repeated}".format(**account))
        click.echo(self._shares(found["served_by"]))
        for broken in self._breaks:
            click.echo(broken.tell(rows))
        good = bool(found["holds"]) and account["served"] == COUNT and in_order(rows, IN_HANDS)
        click.secho(
            "Each request was recorded exactly once." if good else "This is not what was promised.",
            fg="green" if good else "red",
            bold=True,
        )
        return good

    def _shares(self, served_by: Mapping[str, int]) -> str:
        shares = " and ".join(f"{name} {share}" for name, share in served_by.items())
        return f"{shares}: in turns, but for {self._alone} while one of them was frozen or dead"

    # -- queries

    def _start(self, name: str) -> Process:
        return commands.start_worker(name, self._folder, self._environment)

    def _sent(self) -> Sent:
        told = commands.events(self._sender) if self._sender else []
        figures = [event for event in told if "accepted" in event]
        return Sent(figures[-1]["accepted"], figures[-1]["confirmed"]) if figures else Sent()

    def _rows(self) -> list[Served]:
        rows = self._servers.database.query(
            "SELECT client, counter, message, served_at, served_by, deliveries FROM requests"
            " ORDER BY served_at, counter",
            name=NAME,
        )
        return [Served(*row) for row in rows]


def _counters(rows: Iterator[Served] | list[Served]) -> frozenset[int]:
    return frozenset(row.counter for row in rows)
