"""The audit: which requests the tables hold, per client, in one snapshot. Read-only.

A served request never changes, so the workers store what they have counted (worker/counting.py):
for each client the counter up to which it is counted (``audits``), the gaps up to there
(``audit_gaps``), and how many requests each replica served (``audit_shares``). Newer rows are
counted here, on demand. With a seal (turnwise/sealed.py) only rows served later are looked at, so
that clients which have been quiet since cost next to nothing. The code iterates over rows, never
over numbers: a counter may be huge.
"""

# Statements are built from this module's own constants only.
# ruff: noqa: S608

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from turnwise.database import Connection
from turnwise.removed import removed_among
from turnwise.sealed import read_seal
from turnwise.walk import SHOWN_GAPS, Gap, Tail, filled, joined, tails, walk, without

CHUNK = 10_000
"""The most clients that are read together."""

STATEMENT_TIMEOUT = 9
"""Seconds after which the server ends a statement, just before the client's own timeout."""

MOST_UNSEALED = 1_000_000
"""The most rows behind the seal that are read; with more, each client is looked at instead."""

MOST_UNCOUNTED = 100_000
"""The most clients with such rows that are held in memory; with more, likewise."""

# Where a chunk ends: an index scan that skips from client to client.
_NTH = (
    "SELECT client FROM {table} WHERE client > %s GROUP BY client ORDER BY client LIMIT 1 OFFSET %s"
)
_HIGHEST = (
    "SELECT client, MAX(counter) AS highest FROM requests"
    " WHERE client > %(after)s AND client <= %(last)s GROUP BY client"
)
# Two seeks for each client, which is most of the cost of an audit. So this runs once, and uncounted
# rows are listed only if there are any.
_SEEN = (
    "SELECT MAX(of_rows.client), COUNT(*), MAX(through IS NULL OR through < highest)"
    f" FROM ({_HIGHEST} ORDER BY client LIMIT %(size)s) AS of_rows"
    " LEFT JOIN audits ON audits.client = of_rows.client"
)
_UNCOUNTED = (
    f"SELECT of_rows.client, highest, through FROM ({_HIGHEST}) AS of_rows"
    " LEFT JOIN audits ON audits.client = of_rows.client"
    " WHERE through IS NULL OR through < highest"
)
_LATER = "FROM requests FORCE INDEX (served) WHERE served_at > %s"
_TOO_MANY = f"SELECT 1 {_LATER} LIMIT 1 OFFSET {MOST_UNSEALED}"
_UNSEALED = (
    "SELECT of_rows.client, highest FROM"
    f" (SELECT client, MAX(counter) AS highest {_LATER} GROUP BY client) AS of_rows"
    " LEFT JOIN audits ON audits.client = of_rows.client"
    f" WHERE through IS NULL OR through < highest LIMIT {MOST_UNCOUNTED}"
)
_IN = " WHERE client > %(after)s AND client <= %(last)s"
_COUNTED = f"SELECT client, through, repeated FROM audits{_IN}"
_COUNTED_SUM = f"SELECT COUNT(*), COALESCE(SUM(through), 0), MAX(repeated) FROM audits{_IN}"
_COUNTED_OF = "SELECT client, through, repeated FROM audits WHERE client IN %s"
_REPEATED = f"SELECT client FROM audits{_IN} AND repeated > 0"
_REMOVED = f"SELECT client, removed FROM pruned{_IN} AND removed > 0"
_REMOVED_OF = "SELECT client, removed FROM pruned WHERE client IN %s"
_REMOVED_SUM = f"SELECT COALESCE(SUM(removed), 0) FROM pruned{_IN}"
_GAPS = f"SELECT client, SUM(last_missing - first_missing + 1) FROM audit_gaps{_IN} GROUP BY client"
_SHARES = f"SELECT served_by, SUM(served) FROM audit_shares{_IN} GROUP BY served_by"
_FAILURES = (
    "SELECT failures.client, failures.counter, due_at IS NULL AND reason <> 'dropped'"
    " FROM failures LEFT JOIN requests"
    " ON requests.client = failures.client AND requests.counter = failures.counter"
    " WHERE (failures.client = %(client)s AND failures.counter > %(counter)s"
    " OR failures.client > %(client)s AND failures.client <= %(last)s)"
    " AND requests.client IS NULL ORDER BY failures.client, failures.counter LIMIT 1000"
)
_GAP_PAGE = (
    "SELECT first_missing, last_missing FROM audit_gaps WHERE client = %s AND first_missing >= %s"
    " ORDER BY first_missing LIMIT 1000"
)


@dataclass(frozen=True, slots=True)
class Account:
    """One client's account. ``gaps`` holds the first few gaps, as (first, last) missing counter.

    ``served`` includes requests whose rows were ``removed``. ``failed`` counts those in the table
    failures; ``given_up`` those of them that are neither retried again nor dropped by an operator.
    """

    client: str
    served: int
    removed: int
    highest: int
    missing: int
    failed: int
    given_up: int
    repeated: int
    resume_at: int
    gaps: tuple[Gap, ...]

    @property
    def holds(self) -> bool:
        """Whether each of 1 ... highest is accounted for exactly once."""
        return not self.missing and not self.repeated


@dataclass(slots=True)
class Totals:
    """The sums over all clients."""

    clients: int = 0
    served: int = 0
    removed: int = 0
    missing: int = 0
    failed: int = 0
    given_up: int = 0
    repeated: int = 0
    served_by: Counter[str] = field(default_factory=Counter)

    @property
    def holds(self) -> bool:
        """Whether every account holds."""
        return not self.missing and not self.repeated


@dataclass(slots=True)
class _Failed:
    """A client's failures: their counters in order, and how many were given up."""

    counters: array[int] = field(default_factory=lambda: array("q"))
    given_up: int = 0


@dataclass(slots=True)
class _Chunk:
    """What the tables hold on the clients of one chunk."""

    counted: dict[str, tuple[int, int]]
    uncounted: dict[str, int]
    removed: dict[str, int]
    gaps: dict[str, int]
    failures: dict[str, _Failed]


_Range = tuple[str, str, dict[str, int]]
"""Clients after this one, up to that one; the highest counters of those not fully counted."""


class Audit:
    """Reads all accounts, or one client's, in a snapshot of its own.

    ``every``: yield each account; otherwise only those that need attention, which is faster where
    there are many clients. ``chunk`` clients are read together. ``totals`` is complete once
    accounts() is exhausted. Calls ``progress(done, total)`` with numbers of clients, of which
    ``total`` is an estimate.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        every: bool = True,
        client: str | None = None,
        chunk: int = CHUNK,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.totals = Totals()
        self._connection = connection
        self._every = every or client is not None
        self._client = client
        self._size = chunk
        self._progress = progress

    def accounts(self) -> Generator[Account]:
        """Yield accounts, ordered by client. Raises pymysql.Error."""
        connection = self._connection
        bound_statements(connection)
        connection.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        try:
            unsealed = None if self._client else self._unsealed()
            chunks = self._chunks() if unsealed is None else self._sealed_chunks(unsealed)
            for after, last, uncounted in chunks:
                yield from self._read(after, last, uncounted)
                if self._progress and last < _END and self._client is None:
                    self._progress(self.totals.clients, self.totals.clients + self._size)
        finally:
            connection.rollback()

    def _unsealed(self) -> dict[str, int] | None:
        """Return the highest counter of each client that is not fully counted, from the seal on.

        None if there is no sound seal, or too much behind it.
        """
        seal = read_seal(self._connection)
        if not seal or not seal.sound or self._all(_TOO_MANY, (seal.moment,)):
            return None
        rows = self._all(_UNSEALED, (seal.moment,))
        return {c: int(high) for c, high in rows} if len(rows) < MOST_UNCOUNTED else None

    def _sealed_chunks(self, unsealed: dict[str, int]) -> Iterator[_Range]:
        order = sorted(unsealed)
        after, begin = "", 0
        while after < _END:
            last = min(self._ends(after), default=_END)
            if begin + self._size <= len(order):
                last = min(last, order[begin + self._size - 1])
            end = bisect_right(order, last)
            yield after, last, {client: unsealed[client] for client in order[begin:end]}
            after, begin = last, end

    def _chunks(self) -> Iterator[_Range]:
        if self._client is not None:
            # The names before it, as they are sorted, end below it: 'alic~' < 'alice'.
            after = self._client[:-1] + chr(ord(self._client[-1]) - 1) + "~" * 64
            yield after, self._client, self._uncounted(after, self._client)
            return
        after = ""
        while after < _END:
            last = min(self._ends(after), default=_END)
            span = {"after": after, "last": last, "size": self._size}
            [(seen, count, uncounted)] = self._all(_SEEN, span)
            if count == self._size:
                last = seen
            yield after, last, self._uncounted(after, last) if uncounted else {}
            after = last

    def _ends(self, after: str) -> list[str]:
        """Return where a chunk may end, considering the accounts and the failures."""
        return [
            client
            for table in ("audits", "failures")
            for (client,) in self._all(_NTH.format(table=table), (after, self._size - 1))
        ]

    def _uncounted(self, after: str, last: str) -> dict[str, int]:
        rows = self._all(_UNCOUNTED, {"after": after, "last": last})
        return {client: int(highest) for client, highest, _ in rows}

    def _read(self, after: str, last: str, uncounted: dict[str, int]) -> Iterator[Account]:
        span = {"after": after, "last": last}
        totals = self.totals
        for name, served in self._all(_SHARES, span):
            totals.served_by[name] += int(served)
        chunk = _Chunk(
            counted={},
            uncounted=uncounted,
            removed={},
            gaps={client: int(count) for client, count in self._all(_GAPS, span)},
            failures=self._failures(after, last),
        )
        look = {*chunk.uncounted, *chunk.gaps, *chunk.failures}
        if self._every:
            rows = self._all(_COUNTED, span)
            removed = self._all(_REMOVED, span)
        else:
            [(clients, through, repeated)] = self._all(_COUNTED_SUM, span)
            if repeated:
                look |= {client for (client,) in self._all(_REPEATED, span)}
            of = (sorted(look),)
            rows = self._all(_COUNTED_OF, of) if look else []
            removed = self._all(_REMOVED_OF, of) if look else []
            totals.clients += int(clients) - len(rows)
            totals.served += int(through) - sum(int(row[1]) for row in rows)
            [(all_removed,)] = self._all(_REMOVED_SUM, span)
            totals.removed += int(all_removed) - sum(int(count) for _, count in removed)
        chunk.removed = {client: int(count) for client, count in removed}
        chunk.counted = {client: (int(upto), int(repeated)) for client, upto, repeated in rows}
        wanted = sorted({*chunk.counted, *look})
        newer = self._newer(chunk)
        for number, client in enumerate(wanted):
            account = self._account(client, chunk, newer.get(client, Tail()))
            self._add(account)
            if self._every or not account.holds or account.failed:
                yield account
            if self._progress and number % 100 == 0:
                self._progress(totals.clients, totals.clients + len(wanted) - number)

    def _failures(self, after: str, last: str) -> dict[str, _Failed]:
        """Return the failures that have not been served since, by client."""
        found: dict[str, _Failed] = {}
        place: dict[str, object] = {"client": after, "counter": 2**63 - 1, "last": last}
        while page := self._all(_FAILURES, place):
            identities = [(client, int(counter)) for client, counter, _ in page]
            # A failure may stay recorded after its request was served, or even removed.
            served = removed_among(self._connection, identities)
            for identity, (*_, given_up) in zip(identities, page, strict=True):
                if identity not in served:
                    failed = found.setdefault(identity[0], _Failed())
                    failed.counters.append(identity[1])
                    failed.given_up += bool(given_up)
            place["client"], place["counter"] = identities[-1]
        return found

    def _newer(self, chunk: _Chunk) -> dict[str, Tail]:
        """Count the rows that are not counted yet."""
        spans = [
            (client, chunk.counted.get(client, (0, 0))[0], highest)
            for client, highest in sorted(chunk.uncounted.items())
        ]

        def note(done: int) -> None:
            if self._progress:
                self._progress(self.totals.clients + done, self.totals.clients + len(spans))

        return tails(self._connection, spans, note)

    def _account(self, client: str, chunk: _Chunk, newer: Tail) -> Account:
        through, repeated = chunk.counted.get(client, (0, 0))
        failures = chunk.failures.get(client, _Failed())
        failed = failures.counters
        highest = max(through, chunk.uncounted.get(client, 0), *failed[-1:], 0)
        missing = chunk.gaps.get(client, 0)
        gaps: list[Gap] = []
        if missing:
            missing, more, gaps = self._open_gaps(client, missing, failed)
            repeated += more
        served = through - missing + newer.distinct
        repeated += newer.rows - newer.distinct
        self.totals.served_by.update(newer.shares)
        upto = chunk.uncounted.get(client, through)
        newest: list[Gap] = [*newer.gaps, *([(max(through, upto) + 1, highest)] if
                             highest > max(through, upto) else [])]  # fmt: skip
        if len(gaps) <= SHOWN_GAPS:
            gaps = joined([*gaps, *without(newest, failed)])
        shown = tuple(gaps[:SHOWN_GAPS])
        return Account(
            client=client,
            served=served,
            removed=chunk.removed.get(client, 0),
            highest=highest,
            missing=highest - served - len(failed),
            failed=len(failed),
            given_up=failures.given_up,
            repeated=repeated,
            resume_at=shown[0][0] if shown else highest + 1,
            gaps=shown,
        )

    def _open_gaps(
        self, client: str, missing: int, failed: array[int]
    ) -> tuple[int, int, list[Gap]]:
        """Check which of the gaps have closed since they were stored.

        Returns how many counters are still missing, how many rows are repeated in the closed gaps,
        and the first open gaps, without the counters in ``failed``.
        """
        repeated = 0
        shown: list[Gap] = []
        first = 0
        while page := self._all(_GAP_PAGE, (client, first)):
            gaps = [(int(a), int(b)) for a, b in page]
            first = gaps[-1][1] + 1
            closed = filled(self._connection, client, gaps)
            for gap in gaps:
                still = [gap]
                if gap in closed:
                    tail = Tail()
                    for piece in walk(self._connection, client, *gap):
                        tail.add(piece)
                    missing -= tail.distinct
                    repeated += tail.rows - tail.distinct
                    self.totals.served_by.update(tail.shares)
                    still = tail.gaps
                if len(shown) <= SHOWN_GAPS:
                    shown = joined([*shown, *without(still, failed)])
        return missing, repeated, shown

    def _add(self, account: Account) -> None:
        totals = self.totals
        totals.clients += 1
        for name in ("served", "removed", "missing", "failed", "given_up", "repeated"):
            setattr(totals, name, getattr(totals, name) + getattr(account, name))

    def _all(self, statement: str, values: object) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())


_END = "~"
"""Sorts after every client's name."""


def bound_statements(connection: Connection, seconds: int = STATEMENT_TIMEOUT) -> None:
    """Have the server end any statement of this connection that takes longer than ``seconds``."""
    # The type stubs lack server_version.
    if "MariaDB" in str(vars(connection)["server_version"]):
        connection.query(f"SET SESSION max_statement_time = {seconds:d}")
    else:
        connection.query(f"SET SESSION max_execution_time = {1000 * seconds:d}")
