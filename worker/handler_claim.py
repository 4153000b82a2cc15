"""The claim of requests for a handler: their rows are inserted before it runs.

A request that is known to have failed is not claimed. It is served when it is due, from the table
of failures.
"""

from __future__ import annotations

from collections.abc import Sequence

from turnwise.database import Connection
from turnwise.message import Request
from worker import failures
from worker.store import Outcome, claim, claim_new


def claim_together(connection: Connection, requests: Sequence[Request], name: str) -> list[Outcome]:
    """Claim requests that are probably all new, in the transaction's first statement if they are.

    SERVED: the handler may run. FAILED: the failure is recorded already. Raises pymysql.Error.
    """
    if claim_new(connection, requests, name):
        return [Outcome.SERVED] * len(requests)
    connection.rollback()
    return claim_each(connection, requests, name)


def claim_each(connection: Connection, requests: Sequence[Request], name: str) -> list[Outcome]:
    """Claim requests of which any may be known. As claim_together(), in any transaction."""
    known = failures.known(connection, requests)
    if not known:
        return claim(connection, requests, name)
    new = [each for each in requests if (each.client, each.counter) not in known]
    claimed = iter(claim(connection, new, name) if new else ())
    outcomes = []
    for request in requests:
        identity = (request.client, request.counter)
        if identity not in known:
            outcomes.append(next(claimed))
        else:
            same = known[identity] in {None, request.message}
            outcomes.append(Outcome.FAILED if same else Outcome.CONFLICT)
    return outcomes
