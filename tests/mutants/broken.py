"""The pipeline with one promise broken: ``python -m tests.mutants.broken NAME COMMAND ...``.

Each mutant is a mistake common in such systems. The checks of the pipeline must catch it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import producer.cli
import worker.cli
import worker.handler
from producer.door.pending import Pending
from producer.outbox import Outbox
from producer.publisher import Backlog, Publisher
from producer.relay import ledger
from producer.relay.line import Line
from turnwise import door, outbox, publishes, topology
from turnwise.broker import Broker
from turnwise.database import Connection, parse_url
from turnwise.loop import Loop
from turnwise.message import Request
from turnwise.topology import Topology
from worker import failures, pruning, schema, store
from worker.consumer import Consumer
from worker.handler import Turns, Work
from worker.handler_claim import Claims
from worker.handler_connection import OwnConnection
from worker.store import Outcome


def ack_before_commit() -> None:
    """Ack to the broker before the database commits."""
    serve_batch = Consumer._serve_batch

    def acked_first(self: Consumer) -> None:
        self._channel.ack(self._arrived[-1].tag)
        self._channel.flush()
        serve_batch(self)

    Consumer._serve_batch = acked_first  # type: ignore[method-assign]
    Consumer._settle = lambda self: self._unsettled.clear()  # type: ignore[method-assign]


def no_unique_key() -> None:
    """Assume that no request is delivered twice."""
    first, *others = schema.STEPS
    without = first.replace("PRIMARY KEY (client", "KEY (client")
    assert without != first
    vars(schema)["STEPS"] = (without, *others)


def forgotten_before_confirm() -> None:
    """Forget published requests before their confirm."""
    after = Outbox.after

    def forgetting(self: Outbox, number: int, limit: int) -> Iterator[tuple[int, bytes, bytes]]:
        for each in after(self, number, limit):
            yield each
            self.forget([(each[0], each[0])])

    Outbox.after = forgetting  # type: ignore[method-assign]


def forgotten_on_reconnect() -> None:
    """Start each connection as if all publishes of the previous one had been confirmed."""
    begin = Publisher.__init__
    published = 0

    def beginning(self: Publisher, broker: Broker, topology: Topology, backlog: Backlog) -> None:
        if published:
            backlog.forget([(1, published)])
        begin(self, broker, topology, backlog)

    fill = Publisher.publish

    def filling(self: Publisher) -> int:
        nonlocal published
        count = fill(self)
        published = self._published
        return count

    Publisher.__init__ = beginning  # type: ignore[method-assign]
    Publisher.publish = filling  # type: ignore[method-assign]


def not_mandatory() -> None:
    """Count the confirm of an unroutable request as its arrival."""
    vars(publishes)["_MANDATORY"] = b"\x00"


def default_delivery_limit() -> None:
    """Leave the delivery limit to the broker's version."""
    arguments: property = vars(Topology)["queue_arguments"]

    def without(self: Topology) -> dict[str, Any]:
        given: dict[str, Any] = arguments.__get__(self)
        return {name: value for name, value in given.items() if name != "x-delivery-limit"}

    Topology.queue_arguments = property(without)  # type: ignore[method-assign,assignment]


def queue_made_anywhere() -> None:
    """Declare a queue on any node that lacks it."""
    vars(topology)["ensure_nowhere"] = lambda *_: None


def answered_before_confirm() -> None:
    """Answer a PUT before its confirm."""
    submit = Pending.submit

    def submitting(self: Pending, request: Request) -> asyncio.Future[str | None]:
        submit(self, request)
        answered: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        answered.set_result(None)
        return answered

    Pending.submit = submitting  # type: ignore[method-assign]


def deleted_before_confirm() -> None:
    """Delete rows from the outbox before their confirm."""
    after, forget = Line.after, Line.forget

    def deleting(self: Line, number: int, limit: int) -> Iterator[tuple[int, bytes, bytes]]:
        for each in list(after(self, number, limit)):
            yield each
            forget(self, [(each[0], each[0])])

    Line.after = deleting  # type: ignore[method-assign]
    Line.forget = lambda _self, _ranges: None  # type: ignore[method-assign,assignment]


def number_reused() -> None:
    """Ignore the batches that the previous relay recorded, and restart the numbers."""
    acquire, execute = ledger.Ledger.acquire, vars(ledger)["execute"]

    def acquiring(self: ledger.Ledger, seen: ledger.State) -> ledger.Charge | None:
        charge = acquire(self, seen)
        if charge is None:
            return None
        clients = {queue: (client, 0) for queue, (client, _) in charge.clients.items()}
        return replace(charge, clients=clients, batches=[])

    def executing(connection: Any, statement: str, *values: object) -> int:
        if statement != ledger._NUMBERED:
            return int(execute(connection, statement, *values))
        # It does not check that the table agrees either.
        last, queue, *_ = values
        execute(
            connection,
            "UPDATE outbox_clients SET last = GREATEST(last, %s) WHERE queue = %s",
            last,
            queue,
        )
        return 1

    vars(ledger)["_ADD_BATCH"] = ledger._ADD_BATCH.replace("INSERT", "REPLACE")
    ledger.Ledger.acquire = acquiring  # type: ignore[method-assign]
    vars(ledger)["execute"] = executing


def rolled_back_sent() -> None:
    """Publish inserted rows, committed or not."""
    vars(ledger)["_ISOLATION"] = ledger._ISOLATION.replace("READ COMMITTED", "READ UNCOMMITTED")


def alive_only_while_it_serves() -> None:
    """Make the probe report a process as hung during a server's outage."""
    turn, wait = Loop.turn, Loop.wait
    state = {"waits": False, "served": time.monotonic()}

    def turning(self: Loop, timeout: float) -> None:
        if not state["waits"]:
            state["served"] = time.monotonic()
        turn(self, timeout)

    def waiting(self: Loop, condition: Callable[[], object], timeout: float) -> bool:
        state["waits"] = True
        try:
            return wait(self, condition, timeout)
        finally:
            state["waits"] = False

    Loop.turn = turning  # type: ignore[method-assign]
    Loop.wait = waiting  # type: ignore[method-assign]
    Loop.silence = property(lambda _: time.monotonic() - state["served"])  # type: ignore[method-assign,assignment]


def deleted_without_a_line() -> None:
    """Delete old rows, assuming that no repeat of them will ever arrive."""
    vars(pruning)["_MOVE_LINES"] = "DO 0"


def line_after_delete() -> None:
    """Delete old rows first, and record afterwards up to where they are removed."""
    draw_lines = pruning.draw_lines

    def deleting(connection: Connection, rows: pruning.Rows) -> pruning.Rows:
        for step in pruning._steps(rows):
            pruning.delete(connection, step)
        return draw_lines(connection, rows)

    vars(pruning)["draw_lines"] = deleting


# -- with a handler


def handler_before_claim() -> None:
    """Run the handler before checking that the request is new."""

    def serve_together(self: Turns, connection: Connection, works: Sequence[Work]) -> None:
        try:
            for work in works:
                self._handle(connection, work)
        except worker.handler._Failed:
            connection.rollback()
            for work in works:
                work.alone = True
            return
        outcomes = self._claims.each(connection, [work.request for work in works])
        connection.commit()
        for work, outcome in zip(works, outcomes, strict=True):
            work.outcome = outcome

    def begin_redelivered(_self: Turns, _connection: Connection, work: Work) -> None:
        work.redelivered = False

    Turns._serve_together = serve_together  # type: ignore[method-assign]
    Turns._begin_redelivered = begin_redelivered  # type: ignore[method-assign,assignment]


def effects_committed_apart() -> None:
    """Commit the row, then run the handler, then commit its work."""
    claim_ = Turns._claim

    def claim(self: Turns, connection: Connection, works: Sequence[Work]) -> list[Outcome]:
        outcomes = claim_(self, connection, works)
        connection.commit()
        return outcomes

    Turns._claim = claim  # type: ignore[method-assign]


def handler_run_for_a_repeat() -> None:
    """Run the handler whether the request is new or not."""

    def forgetful(claim: Callable[..., list[Outcome]]) -> Callable[..., list[Outcome]]:
        def claiming(*arguments: object) -> list[Outcome]:
            outcomes = claim(*arguments)
            return [Outcome.SERVED if each is Outcome.REPEATED else each for each in outcomes]

        return claiming

    vars(worker.handler)["claim"] = forgetful(store.claim)
    Claims.together = forgetful(Claims.together)  # type: ignore[method-assign]
    Claims.each = forgetful(Claims.each)  # type: ignore[method-assign]


def attempt_counted_twice() -> None:
    """Count an attempt when it begins and again when it ends."""
    vars(failures)["_END"] = failures._END.replace("SET", "SET attempts = attempts + 1,")


def follow_up_outside_of_the_transaction() -> None:
    """Publish a follow-up at once, outside the transaction."""

    def send(_cursor: object, queue: str, message: str) -> None:
        database = parse_url(os.environ["MYSQL_URL"])
        with (
            contextlib.closing(database.connect("apart")) as apart,
            apart.cursor() as cursor,
        ):
            outbox.send(cursor, queue, message)

    vars(worker.handler)["outbox"] = SimpleNamespace(send=send)


def swallowed_deadlock_goes_on() -> None:
    """Leave database errors to the handler, in autocommit."""
    vars(door)["interrupts"] = lambda _error: False
    vars(door)["_IN_TRANSACTION"] = 0xFFFF

    def open_(self: OwnConnection) -> Connection:
        connection = opened(self)
        connection.autocommit(True)
        return connection

    serve_first = Turns._serve_first

    def in_a_transaction(self: Turns, connection: Connection, pending: Sequence[Work]) -> None:
        connection.begin()
        serve_first(self, connection, pending)

    opened = OwnConnection.open
    OwnConnection.open = open_  # type: ignore[method-assign]
    Turns._serve_first = in_a_transaction  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    mutate.__name__: mutate
    for mutate in (
        ack_before_commit,
        no_unique_key,
        forgotten_before_confirm,
        forgotten_on_reconnect,
        not_mandatory,
        default_delivery_limit,
        queue_made_anywhere,
        handler_before_claim,
        effects_committed_apart,
        handler_run_for_a_repeat,
        attempt_counted_twice,
        follow_up_outside_of_the_transaction,
        swallowed_deadlock_goes_on,
        answered_before_confirm,
        deleted_before_confirm,
        number_reused,
        rolled_back_sent,
        alive_only_while_it_serves,
        deleted_without_a_line,
        line_after_delete,
    )
}

if __name__ == "__main__":
    name, command, *sys.argv[1:] = sys.argv[1:]
    MUTANTS[name]()
    {"producer": producer.cli.main, "worker": worker.cli.main}[command](prog_name=command)
