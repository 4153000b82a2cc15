"""The claim of requests for a handler: their rows are inserted before it runs.

A request that is known to have failed is not claimed. It is served when it is due, from the table
of failures.
"""

from __future__ import annotations

from collections.abc import Sequence

from pymysql.constants import COMMAND, ER

from turnwise.database import Connection, code_of
from turnwise.driver import Command
from turnwise.message import Request, write_times
from worker import failures
from worker.prepared import Prepared
from worker.store import INSERT, Outcome, claim, insert_of

_LOOK = (
    "SELECT 'known' FROM failures FORCE INDEX (PRIMARY) WHERE {failed}"
    " UNION ALL SELECT 'known' FROM pruned FORCE INDEX (PRIMARY) WHERE {below} LIMIT 1"
)
_INSERT_ONE = f"{INSERT}VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6), ?, 1)"
_LOOK_ONE = _LOOK.format(failed="client = ? AND counter = ?", below="client = ? AND through >= ?")


class Claims:
    """Claims requests as ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._connection: Connection | None = None
        """The connection that the statements are prepared on."""
        self._prepared: tuple[Prepared, Prepared] | None = None

    def together(self, connection: Connection, requests: Sequence[Request]) -> list[Outcome]:
        """Claim requests that are probably all new, by the transaction's first statement.

        If they are all new, this takes one round trip. SERVED: the handler may run. FAILED: the
        failure is recorded already. Raises pymysql.Error.
        """
        if self.all_new(connection, requests):
            return [Outcome.SERVED] * len(requests)
        connection.rollback()
        return self.each(connection, requests)

    def each(self, connection: Connection, requests: Sequence[Request]) -> list[Outcome]:
        """Claim requests of which any may be known, in any transaction; else like together()."""
        known = failures.known(connection, requests)
        if not known:
            return claim(connection, requests, self._name)
        new = [each for each in requests if (each.client, each.counter) not in known]
        claimed = iter(claim(connection, new, self._name) if new else ())
        outcomes = []
        for request in requests:
            identity = (request.client, request.counter)
            if identity not in known:
                outcomes.append(next(claimed))
            else:
                same = known[identity] in {None, request.message}
                outcomes.append(Outcome.FAILED if same else Outcome.CONFLICT)
        return outcomes

    def all_new(self, connection: Connection, requests: Sequence[Request]) -> bool:
        """Insert the requests. If any is known or below a line, the caller must roll back."""
        # The look comes after the insert, not before: see worker/lines.py.
        insert, look = self._commands(connection, requests)
        try:
            _, known = connection.look_after(insert, look)
        except Exception as error:
            if code_of(error) == ER.DUP_ENTRY:
                return False
            raise
        return not known

    def _commands(
        self, connection: Connection, requests: Sequence[Request]
    ) -> tuple[Command, Command]:
        if len(requests) > 1:
            # All workers take the locks in the same order.
            claimed = sorted(requests, key=lambda request: (request.client, request.counter))
            return (
                _text(insert_of(connection, claimed, self._name)),
                _text(_look_of(connection, claimed)),
            )
        if self._connection is not connection:
            self._connection, self._prepared = connection, _prepare(connection)
        [request] = requests
        if self._prepared is None:
            return (
                _text(insert_of(connection, requests, self._name)),
                _text(_look_of(connection, requests)),
            )
        insert, look = self._prepared
        client, counter, [sent_at] = request.client, request.counter, write_times(requests)
        return (
            insert.command(client, counter, request.message, sent_at, self._name),
            look.command(client, counter, client, counter),
        )


def _prepare(connection: Connection) -> tuple[Prepared, Prepared] | None:
    insert, look = (Prepared.on(connection, each) for each in (_INSERT_ONE, _LOOK_ONE))
    return (insert, look) if insert and look else None


def _text(statement: str) -> Command:
    return COMMAND.COM_QUERY, statement.encode()


def _look_of(connection: Connection, claimed: Sequence[Request]) -> str:
    """Return the query that finds any of these requests that failed, or may be below a line."""
    counters: dict[str, list[str]] = {}
    for request in claimed:
        counters.setdefault(request.client, []).append(str(request.counter))
    theirs = [(connection.escape(client), counters[client]) for client in counters]
    return _LOOK.format(
        failed=" OR ".join(f"client = {c} AND counter IN ({','.join(n)})" for c, n in theirs),
        below=" OR ".join(f"client = {c} AND through >= {n[0]}" for c, n in theirs),
    )
