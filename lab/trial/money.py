"""The trial's own handler: it moves money between accounts, and must neither make nor lose any.

It is careless on purpose: it continues after an error of the database, as some handlers do.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pymysql

from turnwise import Reject, Request, Retry, Transaction

ACCOUNTS = 50
BALANCE = 1_000_000

_SERVED = "SELECT client, counter FROM requests"
_TRANSFERS = "SELECT client, counter, debtor, creditor, amount FROM transfers"
_FOLLOW_UPS = "SELECT message, COUNT(*) FROM sent GROUP BY message"


def serve(request: Request, db: Transaction) -> None:
    """Move an amount from one account to another; all three follow from the request's identity."""
    debtor, creditor, amount, fate = _plan(request.message_id)
    with contextlib.suppress(pymysql.Error):
        db.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", (amount, debtor))
    if fate == 0:
        raise Reject("drawn by lot")
    if fate == 1:
        raise Retry("drawn by lot", after=0.2)
    with contextlib.suppress(pymysql.Error):
        db.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (amount, creditor))
    db.execute(
        "INSERT INTO transfers (client, counter, debtor, creditor, amount)"
        " VALUES (%s, %s, %s, %s, %s)",
        (request.client, request.counter, debtor, creditor, amount),
    )
    db.send("receipts", request.message_id)


def prepare(cursor: Any) -> None:
    """Create the tables. Nothing in them prevents serving a request twice."""
    cursor.execute("CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT) ENGINE = InnoDB")
    cursor.executemany(
        "INSERT INTO accounts VALUES (%s, %s)", [(n, BALANCE) for n in range(ACCOUNTS)]
    )
    cursor.execute(
        "CREATE TABLE transfers (n BIGINT AUTO_INCREMENT PRIMARY KEY, client VARCHAR(64),"
        " counter BIGINT, debtor INT, creditor INT, amount INT) ENGINE = InnoDB"
    )
    # Relays empty the outbox; this trigger remembers its rows, in the same transaction.
    cursor.execute("CREATE TABLE sent (message VARCHAR(100)) ENGINE = InnoDB")
    cursor.execute(
        "CREATE TRIGGER remember AFTER INSERT ON outbox FOR EACH ROW"
        " INSERT INTO sent SELECT NEW.message FROM DUAL WHERE NEW.queue = 'receipts'"
    )


def check(cursor: Any) -> Iterator[tuple[str, str]]:
    """Yield each problem: a kind of the trial's findings, and a case."""
    served = {f"{client}/{counter}" for client, counter in _all(cursor, _SERVED)}
    balances = dict.fromkeys(range(ACCOUNTS), BALANCE)
    transfers: Counter[str] = Counter()
    for client, counter, debtor, creditor, amount in _all(cursor, _TRANSFERS):
        transfers[f"{client}/{counter}"] += 1
        balances[debtor] -= amount
        balances[creditor] += amount
    sent = dict(_all(cursor, _FOLLOW_UPS))
    for identity in served | transfers.keys():
        if transfers[identity] != (identity in served):
            yield "effects", f"{identity}: served {identity in served}, {transfers[identity]} times"
    for identity in served | sent.keys():
        if sent.get(identity, 0) != (identity in served):
            yield "follow-ups", f"{identity}: {sent.get(identity, 0)} sent"
    found = dict(_all(cursor, "SELECT id, balance FROM accounts"))
    if (total := sum(found.values())) != ACCOUNTS * BALANCE:
        yield "money", f"{total - ACCOUNTS * BALANCE:+} in all"
    for account, balance in found.items():
        if balance != balances[account]:
            yield "money", f"account {account}: {balance}, not {balances[account]}"


def _plan(identity: str) -> tuple[int, int, int, int]:
    """Return debtor, creditor, amount, and a fate from 0 to 99. Pure."""
    lots = hashlib.sha256(identity.encode()).digest()
    debtor = lots[0] % ACCOUNTS
    creditor = (debtor + 1 + lots[1] % (ACCOUNTS - 1)) % ACCOUNTS
    return debtor, creditor, 1 + lots[2], int.from_bytes(lots[3:5]) % 100


def _all(cursor: Any, statement: str) -> list[Any]:
    cursor.execute(statement)
    return list(cursor.fetchall())
