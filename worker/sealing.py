"""Moves the seal: the moment up to which every row is counted (turnwise/sealed.py).

An audit has to find the rows that are not counted. Looking at each client takes two seeks in the
table for each, however long ago it sent its last request. With a seal it reads only the rows that
were served later, by the index on ``served_at``.

What makes this safe is that no row can appear behind the seal:

- A row's ``served_at`` is the moment at which its INSERT began. Until its transaction ends, the row
  is locked. So a shared lock on all rows up to a moment waits for every transaction that has
  inserted one, however long a handler takes or a worker is frozen.
- A statement that has begun, but has not inserted its rows yet, is finished within SEAL_AGE: it
  waits for a row for a few seconds at most. Only an ALTER TABLE can hold it up for longer, and
  that holds up a step as well, which then does not move the seal.
- After the database's clock was set back, new rows seem older than they are. The seal is then too
  close to ``now``, or after it: audits ignore it, and the next move breaks it.
- Galera locks the rows of its own node only, so there the seal is never moved.

Whoever forgets what was counted breaks the seal in the same transaction.
"""

# Statements are built from this module's own constants.

from __future__ import annotations

import time
from datetime import datetime, timedelta

from pymysql.constants import ER

from turnwise import sealed
from turnwise.database import LOCK_WAIT_TIMEOUT, Connection, code_of, execute, fetch
from turnwise.sealed import Seal, micros, read_seal
from worker.counting import BREAK, MARGIN, count_fully

EVERY = timedelta(minutes=1)
"""A seal younger than this, above SEAL_AGE, is not moved: it would hardly make audits faster."""

SWEPT = 5_000
"""Rows looked at in one step of a worker, which takes some tens of milliseconds."""

_MOST = 1_000_000
"""The most rows served at the same moment; with more there is no seal behind them."""

_COUNTED = 100
"""Clients counted in one step."""

_HELD_UP = 5.0
"""Seconds; a step that takes longer has waited for something that may have held up others too."""

_MAKE = "INSERT INTO audits VALUES ('', 0, 0) ON DUPLICATE KEY UPDATE client = audits.client"
_LOCK = "SELECT GET_LOCK(CONCAT('turnwise.seal.', LEFT(SHA2(DATABASE(), 256), 32)), 0)"
_UNLOCK = "DO RELEASE_LOCK(CONCAT('turnwise.seal.', LEFT(SHA2(DATABASE(), 256), 32)))"
_GALERA = "SHOW VARIABLES LIKE 'wsrep_on'"
_STEP_END = (
    "SELECT served_at FROM requests FORCE INDEX (served)"
    " WHERE served_at > %s AND served_at <= %s ORDER BY served_at LIMIT 1 OFFSET %s"
)
_IN = "FROM requests FORCE INDEX (served) WHERE served_at > %s AND served_at <= %s"
_TOO_MANY = f"SELECT 1 {_IN} LIMIT 1 OFFSET {_MOST}"
_WAIT_FOR_WRITES = f"SELECT COUNT(*) {_IN} LOCK IN SHARE MODE"
_UNCOUNTED = (
    "SELECT of_rows.client FROM"  # noqa: S608
    f" (SELECT client, MAX(counter) AS highest {_IN} GROUP BY client) AS of_rows"
    " LEFT JOIN audits ON audits.client = of_rows.client"
    f" WHERE through IS NULL OR through < highest LIMIT {_COUNTED}"
)
_MOVE = "UPDATE audits SET through = %s WHERE client = '' AND through = %s AND repeated = %s"
_WAIT = "SET SESSION innodb_lock_wait_timeout = {seconds}"


def move_seal(connection: Connection, rows: int = SWEPT) -> bool:
    """Take one step: move the seal over ``rows``, or count what keeps it from moving.

    Rows served at the same moment are kept together. Returns whether there is more to do now.
    Raises pymysql.Error.
    """
    seal = read_seal(connection)
    if seal is None:
        connection.query(_MAKE)
        return True
    if seal.micros and not seal.sound:
        connection.query(BREAK)
        return True
    youngest = seal.now - sealed.SEAL_AGE
    if youngest < seal.moment + EVERY or _is_galera(connection):
        return False
    if fetch(connection, _LOCK) != [(1,)]:
        return False
    try:
        return _step(connection, seal, youngest, rows)
    except Exception as error:
        # A transaction that inserted such an old row goes on, or somebody else counts the client.
        if code_of(error) not in {ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.CHECKREAD}:
            raise
        connection.rollback()
        return False
    finally:
        if connection.open:
            connection.query(_UNLOCK)


def _step(connection: Connection, seal: Seal, youngest: datetime, rows: int) -> bool:
    begun = time.monotonic()
    end = fetch(connection, _STEP_END, seal.moment, youngest, rows - 1)
    upto: datetime = end[0][0] if end else youngest
    if end and fetch(connection, _TOO_MANY, seal.moment, upto):
        return False
    _wait_for_writes(connection, seal.moment, upto)
    clients = _uncounted(connection, seal.moment, upto)
    if clients:
        count_fully(connection, clients, min(MARGIN, sealed.SEAL_AGE.total_seconds()))
        return _uncounted(connection, seal.moment, upto) != clients
    if time.monotonic() > begun + _HELD_UP:
        return False
    execute(connection, _MOVE, micros(upto), seal.micros, seal.broken)
    return bool(end)


def _wait_for_writes(connection: Connection, after: datetime, upto: datetime) -> None:
    connection.query(_WAIT.format(seconds=1))
    try:
        # Without locks on gaps, new rows can be inserted meanwhile.
        connection.query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        fetch(connection, _WAIT_FOR_WRITES, after, upto)
    finally:
        if connection.open:
            connection.query(_WAIT.format(seconds=LOCK_WAIT_TIMEOUT))


def _uncounted(connection: Connection, after: datetime, upto: datetime) -> list[str]:
    return [client for (client,) in fetch(connection, _UNCOUNTED, after, upto)]


def _is_galera(connection: Connection) -> bool:
    return any(value == "ON" for _, value in fetch(connection, _GALERA))
