"""A relay that fails at a chosen step: ``python -m tests.integration.halting_relay``.

    python -m tests.integration.halting_relay FATE STEP producer relay ...

Steps are counted from the moment it tries to take over: each statement, commit, publish and
check for confirms is one. At step STEP it either freezes before the step (``freeze``), or loses
the database during it: the step does not take effect (``cut``), or takes effect without the relay
learning of it (``deaf``).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pymysql

import producer.cli
from producer.publisher import Publisher
from producer.relay import ledger, relay, shift
from turnwise.database import Connection

FREEZE, CUT, DEAF = "freeze", "cut", "deaf"

fate, at = FREEZE, 0
counted = 0
armed = False


def meet(step: Callable[[], Any], connection: Connection | None = None) -> Any:
    """Count a step, and meet the fate if it is the chosen one."""
    global counted  # noqa: PLW0603
    counted += armed
    if not armed or counted != at:
        return step()
    print(f"step {at}", flush=True)
    if fate == FREEZE or connection is None:
        os.kill(os.getpid(), signal.SIGSTOP)
        return step()
    if fate == DEAF:
        step()
    connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
    raise pymysql.err.OperationalError(2013, "Lost connection to server during query")


def halt_in_the_database() -> None:
    """Count the relay's database steps."""
    names, acquire = vars(ledger), ledger.Ledger.acquire
    execute, fetch = names["execute"], names["fetch"]
    begin = ledger.Ledger._acquire  # noqa: SLF001

    def executing(connection: Connection, statement: str, *values: object) -> int:
        return int(meet(lambda: execute(connection, statement, *values), connection))

    def fetching(connection: Connection, statement: str, *values: object) -> Any:
        return meet(lambda: fetch(connection, statement, *values), connection)

    def beginning(self: ledger.Ledger, connection: Connection, seen: ledger.State) -> Any:
        if "commit" not in vars(connection):
            commit = connection.commit
            vars(connection)["commit"] = lambda: meet(commit, connection)
        return begin(self, connection, seen)

    def acquiring(self: ledger.Ledger, seen: ledger.State) -> Any:
        global armed  # noqa: PLW0603
        armed = True
        return acquire(self, seen)

    names["execute"] = executing
    names["fetch"] = fetching
    ledger.Ledger._acquire = beginning  # type: ignore[method-assign]  # noqa: SLF001
    ledger.Ledger.acquire = acquiring  # type: ignore[method-assign]


def halt_at_the_broker() -> None:
    """Count the relay's RabbitMQ steps."""
    publish, settle = Publisher.publish, Publisher.settle

    def publishing(self: Publisher) -> int:
        waiting = self._published != self._backlog.accepted
        return int(meet(lambda: publish(self))) if waiting else publish(self)

    def settling(self: Publisher) -> bool:
        flying = self.in_flight > 0
        return bool(meet(lambda: settle(self))) if flying else settle(self)

    Publisher.publish = publishing  # type: ignore[method-assign]
    Publisher.settle = settling  # type: ignore[method-assign]


if __name__ == "__main__":
    # Shorten everything that is measured in seconds. A relay must renew more often than the lease
    # ends, or two of them replace each other before either may publish to a new queue.
    vars(relay).update(LEASE=0.6, WATCH=0.2)
    vars(shift).update(RENEW=0.2)
    vars(ledger)["_TIMEOUTS"] = ledger._TIMEOUTS.replace(str(ledger.SILENCE), "1")  # noqa: SLF001
    halt_in_the_database()
    halt_at_the_broker()
    _, fate, step_number, *sys.argv[1:] = sys.argv
    at = int(step_number)
    producer.cli.main(prog_name="producer")
