"""A trial, from its first process to its verdict."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC

import pymysql

from lab.harness import commands
from lab.harness.errors import LabError
from lab.trial.applications import gather
from lab.trial.catalogue import CATALOGUE
from lab.trial.check import Content, Evidence, Findings, Identity, Row, check, farthest_ahead
from lab.trial.faults import BEGUN, ON
from lab.trial.happened import Happened
from lab.trial.recovery import Recovery, recoveries, silence
from lab.trial.removed import ROWS
from lab.trial.schedule import Planned
from lab.trial.workload import LEASE, Calls, calls
from lab.trial.world import World
from turnwise.errors import InvalidRequest
from turnwise.message import Request
from turnwise.topology import Topology

TICK = 0.05
LOOK = 0.5
"""Seconds between two samples of memory and backlog."""

DRAIN_TIMEOUT = 60.0
"""Seconds without a new row, after the last fault has healed, until the trial stops waiting. With a
handler, its lease is added."""

QUIET = 5.0
"""Seconds after which a queue that is reported as empty is empty: the figures are a second old."""

IN_FLIGHT = 1000
"""The most requests that a producer has published without a confirm."""

IDLE = 3.0
"""Seconds of traffic before the first and after the last fault."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample: seconds since the trial began, requests accepted and served so far."""

    at: float
    accepted: int
    served: int | None


@dataclass(slots=True)
class Result:
    """The result of a trial."""

    begun: float
    """Seconds since 1970."""
    seconds: float = 0.0
    faults: list[Happened] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    accepted: int = 0
    confirmed: int = 0
    """The accepted ones that a door answered 201."""
    doubtful: int = 0
    """PUTs that were not answered 201."""
    given_up: int = 0
    """Requests whose caller never learned their outcome."""
    given_up_served: int = 0
    """How many of those are stored."""
    committed: int = 0
    """The accepted ones that were committed to the table outbox."""
    undone: int = 0
    """Requests of transactions that were not committed."""
    in_doubt: int = 0
    """Requests of transactions whose COMMIT had no answer."""
    served: int = 0
    repeats_absorbed: int = 0
    ahead: int = 0
    served_by: dict[str, int] = field(default_factory=dict)
    restarts: int = 0
    peak_memory: dict[str, int] = field(default_factory=dict)
    recovery: Recovery = field(default_factory=Recovery)
    samples: list[Sample] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    deadly: int = 0
    """Requests that were given up as deadly under the faults, and retried at the end."""
    drained: bool = False

    @property
    def void(self) -> list[Happened]:
        """Faults that were not seen to happen."""
        return [fault for fault in self.faults if not fault.proof]

    @property
    def holds(self) -> bool:
        """Whether every fault happened, all was drained and nothing is wrong."""
        return self.drained and not self.void and not self.findings.counts


class Trial:
    """Runs a schedule against a world. ``show(trial)`` is called twice a second."""

    def __init__(
        self, world: World, schedule: Sequence[Planned], show: Callable[[Trial], None]
    ) -> None:
        self.world = world
        self.result = Result(time.time())
        self.schedule = list(schedule)
        self._show = show
        self._zero = time.monotonic()
        self._looked = 0.0
        self._fed = 0.0
        self._over_at = 0.0
        """When a fault was last over."""
        self._feeding = True
        self._calls = Calls()
        self._given_up: dict[Identity, tuple[str, int]] = {}
        self._queued_at = 0.0
        """When the queue was last seen to hold something, or its length was unknown."""

    @property
    def now(self) -> float:
        """Seconds since the trial began."""
        return time.monotonic() - self._zero

    def run(self) -> Result:
        """Run the trial and return its result. Raises LabError if it cannot start."""
        self.world.prepare()
        for source in (*self.world.callers, *self.world.applications):
            source.start()
        self._zero = time.monotonic()
        self.result.begun = time.time()
        self._turn_until(lambda: self.world.served() not in {None, 0}, 60, "the first row")
        shift = self.now
        pending = list(self.schedule)
        while pending or not all(fault.done for fault in self.result.faults):
            while pending and pending[0].at + shift <= self.now:
                planned = pending.pop(0)
                course = CATALOGUE[planned.kind].run(self.world, planned.pick)
                self.result.faults.append(Happened(planned, course, self.now))
            self._tick()
        until = self.now + IDLE
        self._turn_until(lambda: self.now > until, IDLE + 60, "the calm after the last fault")
        self._drain()
        if self.world.workload:
            self._retry()
        self.result.seconds = self.now
        self._judge()
        return self.result

    @property
    def _patience(self) -> float:
        """Seconds without a new row until the trial stops waiting."""
        return DRAIN_TIMEOUT + (LEASE if self.world.workload else 0.0)

    @property
    def _unrouted(self) -> bool:
        """Whether the broker may return requests, which then go behind those in flight."""
        return any(planned.kind == "broker.unroute" for planned in self.schedule)

    # -- while it runs

    def _tick(self) -> None:
        begun = time.monotonic()
        now = self.now
        if self._feeding:
            for client in self.world.clients:
                client.feed(now - self._fed)
        self._fed = now
        self.world.tick(now)
        for fault in self.result.faults:
            if not fault.done:
                self._advance(fault, now)
        if now - self._looked > LOOK:
            self._looked = now
            self._look(now)
        time.sleep(max(0.0, TICK - (time.monotonic() - begun)))

    def _advance(self, fault: Happened, now: float) -> None:
        if fault.on_at is not None and now < fault.on_at + fault.planned.lasts:
            return
        if fault.overdue(now, self._over_at):
            fault.course.close()
            fault.done, fault.off_at = True, now
            self._note(f"{fault.planned.number} {fault.planned.kind} given up")
            return
        try:
            stage = next(fault.course)
        except StopIteration as end:
            fault.done, fault.proof = True, end.value
            fault.off_at = self._over_at = now
            self._note(f"{fault.planned.number} {fault.planned.kind} over: {fault.proof}")
        except (LabError, pymysql.Error, OSError) as error:
            # It healed what it did as it ended. The others still count.
            fault.done, fault.off_at = True, now
            self._note(f"{fault.planned.number} {fault.planned.kind} failed: {error!r}")
        else:
            if stage is BEGUN:
                fault.begun_at = now
                self._note(f"{fault.planned.number} {fault.planned.kind} begun")
            if stage is ON:
                fault.on_at = now
                self._note(f"{fault.planned.number} {fault.planned.kind} on")

    def _note(self, text: str) -> None:
        with (self.world.folder / "faults.log").open("a") as log:
            log.write(f"{self.now:8.2f} {text}\n")

    def _look(self, now: float) -> None:
        for member in self.world.members:
            member.look(now)
        accepted = sum(client.accepted() for client in self.world.clients)
        accepted += sum(len(caller.confirmed) for caller in self.world.callers)
        accepted += sum(len(application.committed) for application in self.world.applications)
        self.result.samples.append(Sample(now, accepted, self.world.served()))
        if not self._feeding and self.world.queued() != 0:
            self._queued_at = now
        self._show(self)

    def _turn_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = self.now + timeout
        while not condition():
            if self.now > deadline:
                raise LabError(f"the trial waited in vain for {what}")
            self._tick()

    def _drain(self) -> None:
        """Stop the clients, and wait until everything that was accepted is served."""
        self._feeding = False
        self._queued_at = self.now
        for client in self.world.clients:
            client.end_of_lines()
            client.finish()
        for caller in self.world.callers:
            caller.finish()
        for application in self.world.applications:
            application.finish()

        def drained() -> bool:
            if any(client.unsent() for client in self.world.clients):
                return False
            if any(s.is_alive() for s in (*self.world.callers, *self.world.applications)):
                return False
            if self.world.left() != 0:
                return False
            latest = self.result.samples[-1]
            # Requests that a caller gave up may be among the served ones, in place of others.
            given_up = sum(len(c.offered) - len(c.confirmed) for c in self.world.callers)
            given_up += sum(len(a.doubtful) for a in self.world.applications)
            return (latest.served or 0) >= latest.accepted + given_up or (
                # A request that is neither stored nor on its way is lost.
                self.now - self._queued_at > QUIET and self.world.failures() == 0
            )

        served, since = 0, self.now
        self._look(self.now)
        while not (done := drained()) and self.now - since < self._patience:
            self._tick()
            latest = self.result.samples[-1].served or 0
            if latest > served:
                served, since = latest, self.now
        self.result.drained = done

    def _retry(self) -> None:
        """Retry all failures that were given up, as an operator does, and let them be served."""
        world, result = self.world, self.result
        self._calls = calls(world.rig(worker) for worker in world.workers)
        self._given_up = self._failed()
        result.deadly = sum(reason == "died" for reason, _ in self._given_up.values())
        commands.finish(["worker", "failed", "retry", "--all"], world.environment)
        left, since = len(self._given_up), self.now
        while (waiting := world.failures()) != 0 and self.now - since < self._patience:
            self._tick()
            if waiting is not None and waiting < left:
                left, since = waiting, self.now
        result.drained = result.drained and waiting == 0

    # -- afterwards

    def _judge(self) -> None:
        world, result = self.world, self.result
        audit = commands.run(["worker", "audit", "--json"], world.environment)
        arguments = world.servers.rabbitmq.api("GET", f"queues/{world.name}/{Topology().queue}")[
            "arguments"
        ]
        for member in (*world.workers, *world.doors, *world.relays):
            member.down_holds += 1
            member.order_end(0)
            member.process.signal(signal.SIGTERM)
        for member in world.members:
            member.process.wait(40)
            member.tick(self.now)
        ledger: dict[Identity, Content] = {}
        waiting: set[Identity] = set()
        for client in world.clients:
            name, accepted = client.ledger()
            ledger |= {(name, counter): content for counter, content in accepted.items()}
            waiting |= {(name, counter) for counter in client.waiting()}
        confirmed: dict[Identity, str] = {}
        offered: dict[Identity, str] = {}
        for caller in world.callers:
            confirmed |= caller.confirmed
            offered |= caller.offered
        table = gather(world.applications, world.relayed())
        rows = self._rows()
        served = {(row.client, row.counter) for row in rows}
        failed = {each: how for each, how in self._failed().items() if each not in served}
        problems: list[tuple[str, str]] = []
        if world.workload:
            with world.servers.database.connect(world.name) as cursor:
                problems = world.workload.problems(cursor)
        evidence = Evidence(
            ledger=ledger,
            accepted={client.ledger()[0]: client.accepted() for client in world.clients},
            waiting=frozenset(waiting),
            dead=self._dead(),
            rows=rows,
            ends=[end for member in world.members for end in member.ends],
            usages=[usage for member in world.members for usage in member.usages],
            queue_arguments=arguments,
            expected_arguments=Topology().queue_arguments,
            in_hands=world.in_hands + (IN_FLIGHT if self._unrouted else 0),
            audit_holds=bool(audit["holds"]),
            confirmed=confirmed,
            offered=offered,
            unexpected=[each for caller in world.callers for each in caller.unexpected],
            given_up=self._given_up,
            failed=failed,
            calls=self._calls,
            disturbed=frozenset(pid for worker in world.workers for pid in worker.disturbed),
            problems=problems,
            table=table,
        )
        result.findings = check(evidence)
        result.rows = rows
        result.accepted = len(ledger) + len(confirmed) + len(table.committed)
        result.served = len(rows)
        result.confirmed = len(confirmed)
        result.committed = len(table.committed)
        result.undone, result.in_doubt = len(table.undone), len(table.doubtful)
        result.given_up = len(offered) - len(confirmed)
        result.given_up_served = sum(
            (row.client, row.counter) in offered.keys() - confirmed.keys() for row in rows
        )
        result.doubtful = sum(caller.doubtful for caller in world.callers)
        result.repeats_absorbed = sum(row.deliveries - 1 for row in rows)
        result.ahead = max((ahead for _, ahead, _ in farthest_ahead(rows)), default=0)
        result.served_by = audit["served_by"]
        result.restarts = sum(member.starts - 1 for member in world.members)
        for usage in evidence.usages:
            peak = max(result.peak_memory.get(usage.name, 0), usage.resident)
            result.peak_memory[usage.name] = peak
        times = sorted(row.served_at - result.begun for row in rows)
        for fault in result.faults:
            if fault.off_at is not None:
                fault.silence = silence(times, fault.begun_at, fault.off_at)
        result.recovery = recoveries(
            [at - result.begun for at in world.heals],
            times,
            [d for fault in result.faults if (d := fault.disturbance(len(world.workers)))],
            len(world.workers),
        )

    def _rows(self) -> list[Row]:
        """Return every row that was ever stored, including those removed since."""
        found = self.world.servers.database.query(ROWS, name=self.world.name)
        return [
            Row(
                client=client,
                counter=counter,
                message=message,
                sent_at=sent_at.replace(tzinfo=UTC).isoformat(),
                served_at=served_at.replace(tzinfo=UTC).timestamp(),
                served_by=served_by,
                deliveries=deliveries,
            )
            for client, counter, message, sent_at, served_at, served_by, deliveries in found
        ]

    def _failed(self) -> dict[Identity, tuple[str, int]]:
        """Return the current failures: reason and attempts by identity."""
        found = self.world.servers.database.query(
            "SELECT client, counter, reason, attempts FROM failures", name=self.world.name
        )
        return {(client, counter): (reason, n) for client, counter, reason, n in found}

    def _dead(self) -> list[Identity | None]:
        """Return the identities of the dead letters, where they are valid requests."""
        dead: list[Identity | None] = []
        for body in self.world.dead_letters():
            try:
                request = Request.decode(body)
            except InvalidRequest:
                dead.append(None)
            else:
                dead.append((request.client, request.counter))
        return dead
