"""The schema and its migrations: numbered steps, safe when many workers start at once."""

from __future__ import annotations

import logging
import re
from typing import Any

from pymysql.constants import ER

from turnwise.database import Connection, Database, code_of, translating
from turnwise.errors import Permanent, Transient
from turnwise.log import event

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 5
"""Seconds to wait for another worker's migration; less than the connection's read timeout."""

# Galera has no such locks. These are MariaDB's error for it, and that of Percona's strict mode,
# which has no number of its own. Each step may safely run twice at once.
_NO_LOCKS = frozenset({ER.NOT_SUPPORTED_YET, ER.UNKNOWN_ERROR})

# Each step runs once, in order. MySQL commits each DDL statement by itself, so an interrupted step
# runs again and must be repeatable. A step must also suit the previous release, whose workers keep
# running during an upgrade.
STEPS = (
    """
    CREATE TABLE IF NOT EXISTS requests (
        client     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                   COMMENT 'who sent it; with counter, the identity',
        counter    BIGINT NOT NULL
                   COMMENT '1, 2, 3 ... per client',
        message    TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        sent_at    DATETIME(6) NOT NULL
                   COMMENT 'UTC, when the outbox accepted it',
        served_at  DATETIME(6) NOT NULL
                   COMMENT 'UTC, by the clock of this server',
        served_by  VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                   COMMENT 'the replica (pod) that committed it',
        deliveries INT NOT NULL DEFAULT 1
                   COMMENT 'how often it was brought here; above 1: repeats without effect',
        PRIMARY KEY (client, counter),
        KEY served (served_at)
    ) ENGINE = InnoDB COMMENT 'each request exactly once'
    """,
    """
    CREATE TABLE IF NOT EXISTS audits (
        client   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        through  BIGINT NOT NULL COMMENT 'the counters up to this one are counted',
        repeated BIGINT NOT NULL COMMENT 'rows beyond the first of a counter'
    ) ENGINE = InnoDB COMMENT 'what is counted already, so that an audit need not count it again'
    """,
    """
    CREATE TABLE IF NOT EXISTS audit_gaps (
        client        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        first_missing BIGINT NOT NULL,
        last_missing  BIGINT NOT NULL,
        PRIMARY KEY (client, first_missing)
    ) ENGINE = InnoDB COMMENT 'counters that were missing when they were counted'
    """,
    """
    CREATE TABLE IF NOT EXISTS audit_shares (
        client    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        served_by VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        served    BIGINT NOT NULL,
        PRIMARY KEY (client, served_by)
    ) ENGINE = InnoDB COMMENT 'who served how many of those that are counted'
    """,
    """
    CREATE TABLE IF NOT EXISTS failures (
        client    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                  COMMENT 'with counter, the identity of a request that a handler did not serve',
        counter   BIGINT NOT NULL,
        message   TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        sent_at   DATETIME(6) NOT NULL
                  COMMENT 'UTC, when the outbox accepted it',
        attempts  INT NOT NULL
                  COMMENT 'how often a handler began to serve it, deaths included',
        deaths    INT NOT NULL
                  COMMENT 'how often that ended the process, or may have',
        error     VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
                  COMMENT 'what the last attempt ended with: type and text, one line',
        traceback TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
        reason    VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                  COMMENT 'failed, rejected, died, timeout',
        failed_at DATETIME(6) NOT NULL
                  COMMENT 'UTC, by the clock of this server',
        failed_by VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                  COMMENT 'the replica (pod) that noted it',
        due_at    DATETIME(6) NULL
                  COMMENT 'UTC, when it is served again; NULL: given up',
        PRIMARY KEY (client, counter),
        KEY due (due_at, reason)
    ) ENGINE = InnoDB COMMENT 'requests that a handler did not serve, at most once each'
    """,
    # The constraints hold for applications in any language: an INSERT that could never be sent
    # fails in the application's own transaction.
    """
    CREATE TABLE IF NOT EXISTS outbox (
        id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY
                   COMMENT 'in the order of the INSERTs, which is not that of the COMMITs',
        queue      VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        message    TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        created_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
        CONSTRAINT outbox_queue CHECK
            (CHAR_LENGTH(queue) BETWEEN 1 AND 200 AND queue NOT REGEXP '[^A-Za-z0-9._-]'),
        CONSTRAINT outbox_message CHECK (OCTET_LENGTH(message) <= 16384)
    ) ENGINE = InnoDB COMMENT 'requests of committed transactions, until RabbitMQ has them'
    """,
    """
    CREATE TABLE IF NOT EXISTS outbox_relay (
        only_row   TINYINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
        epoch      BIGINT NOT NULL
                   COMMENT 'grows with each take-over; every write of a relay checks it',
        beat       BIGINT NOT NULL
                   COMMENT 'grows while the relay of this epoch is at work',
        holder     VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL
                   COMMENT 'the relay at work; NULL: it has stopped, another may begin',
        renewed_at DATETIME(6) NOT NULL
                   COMMENT 'UTC, for people: nothing is decided by it',
        numbered   BIGINT NOT NULL
                   COMMENT 'the highest id in the outbox that has a number, or had one',
        swept      BIGINT NOT NULL
                   COMMENT 'hardly anything waits with an id up to this one'
    ) ENGINE = InnoDB COMMENT 'one row: which relay is at work'
    """,
    """
    INSERT INTO outbox_relay VALUES (1, 0, 0, NULL, UTC_TIMESTAMP(6), 0, 0)
    ON DUPLICATE KEY UPDATE only_row = only_row
    """,
    """
    CREATE TABLE IF NOT EXISTS outbox_clients (
        queue  VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        client VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE
               COMMENT 'as whom the relay sends to this queue',
        last   BIGINT NOT NULL
               COMMENT 'the last number given out',
        cluster VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL
               COMMENT 'the RabbitMQ cluster that has confirmed something in this queue'
    ) ENGINE = InnoDB COMMENT 'the numbers of what came through the outbox, per queue'
    """,
    """
    CREATE TABLE IF NOT EXISTS outbox_batches (
        client VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        first  BIGINT NOT NULL
               COMMENT 'the number of the first request of the batch; the others follow it',
        size   INT NOT NULL,
        queue  VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        ids    MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL
               COMMENT 'the rows of the outbox, in the order of their numbers: 4-6,9',
        PRIMARY KEY (client, first)
    ) ENGINE = InnoDB COMMENT 'which rows have which numbers, until they are confirmed'
    """,
    """
    CREATE TABLE IF NOT EXISTS page_actions (
        id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        begun_at   DATETIME(6) NOT NULL,
        updated_at DATETIME(6) NOT NULL
                   COMMENT 'UTC, the last progress',
        ended_at   DATETIME(6) NULL
                   COMMENT 'UTC; NULL: it goes on, or the page that did it has ended',
        actor      VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
                   COMMENT 'as the operator called themselves at the login',
        address    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
                   COMMENT 'where they came from',
        action     VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        selection  VARCHAR(4000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
                   COMMENT 'what it was meant for: a filter, or what was chosen; JSON',
        expected   BIGINT NULL,
        done       BIGINT NOT NULL,
        problem    VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
    ) ENGINE = InnoDB COMMENT 'what operators did on the page'
    """,
    """
    CREATE TABLE IF NOT EXISTS pruned (
        client  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        through BIGINT NOT NULL
                COMMENT 'up to here what is in no gap was served, and its row may be gone',
        removed BIGINT NOT NULL DEFAULT 0
                COMMENT 'rows that are gone'
    ) ENGINE = InnoDB COMMENT 'up to where old rows were removed'
    """,
    "INSERT INTO pruned (client, through) VALUES ('', 0) ON DUPLICATE KEY UPDATE client = client",
    """
    CREATE TABLE IF NOT EXISTS pruned_shares (
        client    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        served_by VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        removed   BIGINT NOT NULL,
        PRIMARY KEY (client, served_by)
    ) ENGINE = InnoDB COMMENT 'who had served how many of the rows that are gone'
    """,
    """
    CREATE TABLE IF NOT EXISTS page_logouts (
        id      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY
                COMMENT 'of a session of the page',
        ends_at DATETIME(6) NOT NULL
                COMMENT 'UTC, when it would have ended by itself, and the row may go',
        KEY ends (ends_at)
    ) ENGINE = InnoDB COMMENT 'sessions of the page that were logged out before their time'
    """,
    # Every INSERT reads it; see worker/lines.py.
    """
    CREATE TABLE IF NOT EXISTS prune_epoch (
        epoch BIGINT NOT NULL PRIMARY KEY
    ) ENGINE = InnoDB COMMENT 'one row: how often lines of the table pruned were moved'
    """,
    # The epoch used to be a row among the lines.
    """
    INSERT INTO prune_epoch SELECT through FROM pruned
    WHERE client = '' AND NOT EXISTS (SELECT 1 FROM prune_epoch AS there)
    ON DUPLICATE KEY UPDATE epoch = prune_epoch.epoch
    """,
    "DELETE FROM pruned WHERE client = ''",
    # Serves paging through the failures of one state by the time at which they failed.
    """
    ALTER TABLE failures
    ADD COLUMN state TINYINT AS (IF(reason = 'dropped', 2, due_at IS NOT NULL)) VIRTUAL
               COMMENT '0 given up, 1 waiting for another attempt, 2 dropped by an operator',
    ADD KEY state (state, failed_at)
    """,
)

VERSION = len(STEPS)

_THERE = {ER.DUP_FIELDNAME, ER.DUP_KEYNAME}

_CREATES = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")

_DONE = """
    INSERT INTO schema_version VALUES (%s, UTC_TIMESTAMP(6))
    ON DUPLICATE KEY UPDATE version = version
"""

_VERSIONS = """
    CREATE TABLE IF NOT EXISTS schema_version (
        version    INT NOT NULL PRIMARY KEY,
        applied_at DATETIME(6) NOT NULL
    ) ENGINE = InnoDB COMMENT 'the steps of worker/schema.py that are done'
"""


def migrate(connection: Connection, database: Database) -> int:
    """Bring the schema up to date and return how many steps that took.

    If the schema is up to date, or newer, the account needs no right to change it. Raises Refused
    when it is out of date and the account may not change it.
    """
    with translating(database):
        there = _tables(connection)
        done = _version(connection) if "schema_version" in there else 0
        _check_tables(connection, database, done, there)
        if done >= VERSION:
            return 0
        with connection.cursor() as cursor:
            lock = f"turnwise.migrate.{database.name}"[:64]
            locked: bool | None = None
            try:
                cursor.execute("SELECT GET_LOCK(%s, %s)", (lock, LOCK_TIMEOUT))
                locked = cursor.fetchone() == (1,)
            except Exception as error:
                if code_of(error) not in _NO_LOCKS:
                    raise
            if locked is False:
                raise Transient(f"another worker is migrating {database}")
            try:
                cursor.execute(_VERSIONS)
                done = _version(connection)
                for version in range(done + 1, VERSION + 1):
                    _take_step(cursor, STEPS[version - 1])
                    cursor.execute(_DONE, (version,))
                if done < VERSION:
                    event(log, logging.INFO, "schema.migrated", version=VERSION)
            finally:
                if locked:
                    cursor.execute("SELECT RELEASE_LOCK(%s)", (lock,))
    return VERSION - done


def _take_step(cursor: Any, step: str) -> None:
    try:
        cursor.execute(step)
    except Exception as error:
        # The step was interrupted after its ALTER TABLE, which is atomic.
        if not step.lstrip().startswith("ALTER") or code_of(error) not in _THERE:
            raise


def _tables(connection: Connection) -> set[str]:
    """Return the existing tables, as far as the account may see them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
        )
        return {name for (name,) in cursor.fetchall()}


def _check_tables(connection: Connection, database: Database, done: int, there: set[str]) -> None:
    """Raise Permanent if a table that was created is gone: recreating it would hide the loss."""
    made = {table for step in STEPS[:done] for table in _CREATES.findall(step)}
    gone = [table for table in sorted(made - there) if not _exists(connection, table)]
    if gone:
        raise Permanent(
            f"{', '.join(gone)}: gone from {database}, where schema_version says that it exists. "
            "Restore it from a backup (docs/operations.md, Backup and restore). To start with an "
            f"empty database instead, drop all of {database.name} and run 'worker migrate'"
        )


def _exists(connection: Connection, table: str) -> bool:
    """Return whether the table exists, even if the account may not see it."""
    try:
        connection.query(f"SELECT 1 FROM {table} LIMIT 0")  # noqa: S608 - a name from STEPS
    except Exception as error:
        if code_of(error) is None:
            raise
        return code_of(error) != ER.NO_SUCH_TABLE
    return True


def _version(connection: Connection) -> int:
    """Return the number of the last step done."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT COALESCE(MAX(version), 0) FROM schema_version")
        row = cursor.fetchone()
    return int(row[0]) if row else 0
