"""Rows that were deleted while a trial ran: a trigger copies them, in the same commit.

So a removed row counts as stored, and one that is stored again after its removal as a repeat.
"""

# Statements are built from this module's own constants.
# ruff: noqa: S608

from __future__ import annotations

from pymysql.cursors import Cursor

_COLUMNS = "client, counter, message, sent_at, served_at, served_by, deliveries"

TABLE = """
    CREATE TABLE removed (
        n          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        client     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        counter    BIGINT NOT NULL,
        message    TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        sent_at    DATETIME(6) NOT NULL,
        served_at  DATETIME(6) NOT NULL,
        served_by  VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        deliveries INT NOT NULL,
        KEY (client, counter)
    ) ENGINE = InnoDB
"""
_TRIGGER = f"""
    CREATE TRIGGER IF NOT EXISTS put_aside AFTER DELETE ON requests FOR EACH ROW
    INSERT INTO removed ({_COLUMNS}) VALUES ({", ".join(f"OLD.{c}" for c in _COLUMNS.split(", "))})
"""
ROWS = (
    f"SELECT {_COLUMNS} FROM requests UNION ALL SELECT {_COLUMNS} FROM removed"
    " ORDER BY served_at, client, counter"
)
STORED = "SELECT (SELECT COUNT(*) FROM requests) + (SELECT COUNT(*) FROM removed)"


def put_aside(cursor: Cursor) -> None:
    """Copy rows that are deleted from now on. Idempotent. Raises pymysql.Error."""
    # While this waits for a frozen transaction, all others wait too.
    cursor.execute("SET lock_wait_timeout = 1")
    cursor.execute(_TRIGGER)
