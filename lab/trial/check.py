"""The verdict: compares what was accepted with what is stored. Pure."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lab.trial.members import End, Usage
from lab.trial.workload import Calls

Identity = tuple[str, int]
Content = tuple[str, str]
"""The message, and the time of its acceptance in ISO format."""

MEMORY_LIMIT = 80 * 1024 * 1024
"""Bytes that no process of the pipeline may exceed."""

GROWTH_LIMIT = 12 * 1024 * 1024
"""Bytes by which a process may grow from the first third of its life to the last."""

DESCRIPTOR_GROWTH = 12
THREAD_GROWTH = 4

DEATHS_SEEN = 2
"""How many workers faults must have ended or frozen during a request's handler before the request
may be given up as deadly. A worker gives up after three deaths. The first of them may be a mere
redelivery, which no handler sees."""

LONG_LIFE = 60.0
"""Seconds that a process must have lived to be checked for growth."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    client: str
    counter: int
    message: str
    sent_at: str
    served_at: float
    """Seconds since 1970."""
    served_by: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class Table:
    """What applications left in the table outbox. No two messages are the same."""

    committed: frozenset[str] = frozenset()
    undone: frozenset[str] = frozenset()
    """Messages of transactions that were rolled back, or never committed."""
    doubtful: frozenset[str] = frozenset()
    """Messages of transactions whose COMMIT had no answer."""
    clients: Mapping[str, int] = field(default_factory=dict)
    """The clients that relays sent them as, each with its last number."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known at the end of a trial."""

    ledger: Mapping[Identity, Content]
    accepted: Mapping[str, int]
    """The last counter that each client assigned."""
    waiting: frozenset[Identity]
    dead: Sequence[Identity | None]
    """The identity of each dead letter; None where the body is not a valid request."""
    rows: Sequence[Row]
    ends: Sequence[End]
    usages: Sequence[Usage]
    queue_arguments: Mapping[str, Any]
    expected_arguments: Mapping[str, Any]
    in_hands: int
    """The most requests that could be held at once: by workers, including frozen ones and abandoned
    connections, and by a producer in flight when the broker returned some."""
    audit_holds: bool
    confirmed: Mapping[Identity, str] = field(default_factory=dict)
    """The messages that a door answered 201."""
    offered: Mapping[Identity, str] = field(default_factory=dict)
    """All messages that were ever sent to a door: unconfirmed ones may be stored too."""
    unexpected: Sequence[str] = ()
    """Answers of a door that no fault explains."""
    given_up: Mapping[Identity, tuple[str, int]] = field(default_factory=dict)
    """Requests that were given up under the faults, before the final retry: reason and attempts."""
    failed: Mapping[Identity, tuple[str, int]] = field(default_factory=dict)
    """The failures that remain at the end: reason and attempts."""
    calls: Calls = field(default_factory=Calls)
    """The handlers' calls under the faults."""
    disturbed: frozenset[int] = frozenset()
    """The process ids of workers that faults have ended or frozen."""
    problems: Sequence[tuple[str, str]] = ()
    """The findings of the handler's own check."""
    table: Table = field(default_factory=Table)


@dataclass(slots=True)
class Findings:
    """The findings by kind, each with its first few cases. If all are empty, nothing is wrong."""

    cases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, case: str) -> None:
        """Record a case."""
        self.counts[kind] += 1
        if len(self.cases[kind]) < 5:  # noqa: PLR2004
            self.cases[kind].append(case)


KINDS = {
    "lost": "accepted, answered 201 or committed, and neither stored, waiting nor dead-lettered",
    "repeated": "stored more than once",
    "changed": "stored with another content",
    "invented": "stored, and never accepted",
    "rolled back": "stored, though its transaction was rolled back",
    "dead-lettered": "valid, and dead-lettered",
    "waiting": "still in the outbox at the end",
    "answered": "an answer of a door that no fault explains",
    "numbers": "a gap in the numbers that a client assigned, or a number assigned twice",
    "resumed": "served so far ahead that serving did not resume where it stopped",
    "ended": "a process that ended without being asked to",
    "memory": "a process that grew",
    "leak": "descriptors or threads that were not released",
    "topology": "a queue with other arguments than it should have",
    "audit": "worker audit disagrees",
    "effects": "a request whose effects are not there exactly once",
    "money": "money that was made or lost",
    "follow-ups": "a follow-up that is not there exactly once",
    "attempts": "more attempts counted than were made",
    "died": "given up as deadly, though faults do not account for it",
    "check": "the handler's own check fails",
}


def check(evidence: Evidence) -> Findings:
    """Compare all evidence and return the findings."""
    findings = Findings()
    _check_rows(evidence, findings)
    _check_table(evidence, findings)
    _check_numbers(evidence, findings)
    _check_order(evidence, findings)
    for end in evidence.ends:
        if not end.ordered:
            findings.add("ended", f"{end.name} with {end.code}")
    for answer in evidence.unexpected:
        findings.add("answered", answer)
    _check_failures(evidence, findings)
    _check_usage(evidence.usages, findings)
    if dict(evidence.queue_arguments) != dict(evidence.expected_arguments):
        findings.add("topology", f"{dict(evidence.queue_arguments)}")
    if not evidence.audit_holds:
        findings.add("audit", "worker audit does not hold")
    return findings


def _check_rows(evidence: Evidence, findings: Findings) -> None:
    stored: dict[Identity, Content] = {}
    for row in evidence.rows:
        if row.client in evidence.table.clients:
            continue
        identity, content = (row.client, row.counter), (row.message, row.sent_at)
        if identity in stored:
            findings.add("repeated", f"{identity}")
        stored[identity] = content
        if identity in evidence.offered:
            # Only the door knows when it accepted the request.
            if evidence.offered[identity] != row.message:
                findings.add("changed", f"{identity}: {content} for {evidence.offered[identity]}")
        elif identity not in evidence.ledger:
            findings.add("invented", f"{identity}")
        elif evidence.ledger[identity] != content:
            findings.add("changed", f"{identity}: {content} for {evidence.ledger[identity]}")
    dead = {identity for identity in evidence.dead if identity is not None}
    for identity in dead & (evidence.ledger.keys() | evidence.offered.keys()):
        findings.add("dead-lettered", f"{identity}")
    promised = evidence.ledger.keys() | evidence.confirmed.keys()
    for identity in promised - stored.keys() - dead - evidence.failed.keys():
        kind = "waiting" if identity in evidence.waiting else "lost"
        findings.add(kind, f"{identity}")


def _check_table(evidence: Evidence, findings: Findings) -> None:
    """Compare by message, since applications do not know identities."""
    table = evidence.table
    stored: Counter[str] = Counter()
    numbers: dict[str, list[int]] = {client: [] for client in table.clients}
    for row in evidence.rows:
        if row.client in numbers:
            stored[row.message] += 1
            numbers[row.client].append(row.counter)
    for message, times in stored.items():
        if times > 1:
            findings.add("repeated", f"{message[:40]}: {times} times")
    for message in stored.keys() - table.committed - table.doubtful:
        findings.add("rolled back" if message in table.undone else "invented", message[:40])
    for message in table.committed - stored.keys():
        findings.add("lost", message[:40])
    for identity in evidence.dead:
        if identity and identity[0] in numbers:
            findings.add("dead-lettered", f"{identity}")
    for client, last in table.clients.items():
        _check_gapless(client, set(numbers[client]), last, findings)


def _check_numbers(evidence: Evidence, findings: Findings) -> None:
    given: dict[str, set[int]] = defaultdict(set)
    for client, counter in evidence.ledger:
        given[client].add(counter)
    for client, accepted in evidence.accepted.items():
        _check_gapless(client, given[client], accepted, findings)


def _check_gapless(client: str, numbers: set[int], last: int, findings: Findings) -> None:
    wrong = numbers ^ set(range(1, last + 1))
    if wrong:
        findings.add("numbers", f"{client}: {sorted(wrong)[:5]}")


def _check_order(evidence: Evidence, findings: Findings) -> None:
    """Check that serving resumed where it stopped.

    While a higher request of its client is served, an unserved one must be held by a worker, or be
    on its way back from one. So serving may be ahead by the number of held requests only.
    """
    # Requests that a handler put off, or that a fault held, are served later on purpose.
    late = evidence.calls.raised.keys() | evidence.calls.held.keys() | evidence.given_up.keys()
    rows = [row for row in evidence.rows if (row.client, row.counter) not in late]
    for client, ahead, row in farthest_ahead(rows, late):
        if ahead > evidence.in_hands:
            findings.add("resumed", f"{client}: {row} served, {ahead} before it were not")


class Place(Protocol):
    """A request and the time at which it was served."""

    @property
    def client(self) -> str:
        """The client."""

    @property
    def counter(self) -> int:
        """The counter."""

    @property
    def served_at(self) -> Any:
        """The time, as anything that can be compared."""


def _check_failures(evidence: Evidence, findings: Findings) -> None:
    calls = evidence.calls
    for identity, (reason, attempts) in evidence.given_up.items():
        ended = calls.unfinished.get(identity, frozenset()) & evidence.disturbed
        if reason == "died" and len(ended) < DEATHS_SEEN:
            findings.add("died", f"{identity}: only {len(ended)} were ended by faults")
        # A redelivered request counts an attempt that may have been made before.
        if attempts > calls.begun[identity] + 1:
            findings.add("attempts", f"{identity}: {attempts} for {calls.begun[identity]} calls")
    for identity, (reason, _) in evidence.failed.items():
        if reason == "died":
            findings.add("died", f"{identity}: though nothing befell it when it was retried")
    for kind, case in evidence.problems:
        findings.add(kind, case)


def farthest_ahead(
    rows: Iterable[Place], skipped: Iterable[Identity] = ()
) -> list[tuple[str, int, int]]:
    """Return for each client how many lower counters were not served yet, at most, and when.

    Skipped requests count as served.
    """
    highest: dict[str, int] = defaultdict(int)
    served: dict[str, int] = defaultdict(int)
    worst: dict[str, tuple[int, int]] = {}
    excused: dict[str, list[int]] = defaultdict(list)
    for client, counter in sorted(skipped):
        excused[client].append(counter)
    for row in sorted(rows, key=lambda r: (r.served_at, r.client, r.counter)):
        highest[row.client] = max(highest[row.client], row.counter)
        served[row.client] += 1
        ahead = highest[row.client] - served[row.client]
        ahead -= bisect.bisect(excused[row.client], highest[row.client])
        if ahead > worst.get(row.client, (-1, 0))[0]:
            worst[row.client] = (ahead, row.counter)
    return [(client, ahead, counter) for client, (ahead, counter) in sorted(worst.items())]


def _check_usage(usages: Sequence[Usage], findings: Findings) -> None:
    lives: dict[tuple[str, int], list[Usage]] = defaultdict(list)
    for usage in usages:
        lives[usage.name, usage.pid].append(usage)
    for (name, pid), life in lives.items():
        peak = max(usage.resident for usage in life)
        if peak > MEMORY_LIMIT:
            findings.add("memory", f"{name} ({pid}): {peak / 2**20:.0f} MiB")
        if life[-1].at - life[0].at < LONG_LIFE:
            continue
        # A leak: the minimum at the end exceeds the maximum at the beginning.
        third = len(life) // 3
        early, late = life[:third], life[-third:]
        for what, limit, kind in (
            ("resident", GROWTH_LIMIT, "memory"),
            ("descriptors", DESCRIPTOR_GROWTH, "leak"),
            ("threads", THREAD_GROWTH, "leak"),
        ):
            most = max(getattr(usage, what) for usage in early)
            least = min(getattr(usage, what) for usage in late)
            if least - most > limit:
                findings.add(kind, f"{name} ({pid}): {what} from {most:,} to {least:,}")
