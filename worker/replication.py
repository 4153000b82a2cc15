"""Checks by the database's settings whether a fail-over could lose acked requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from turnwise.database import Connection

LONG_ENOUGH = 3_600_000
"""Milliseconds. Waiting this long for a replica stops a primary; it does not carry on alone."""

_NAMES = ("rpl_semi_sync_source_", "rpl_semi_sync_master_")
"""The prefixes in MySQL now, and in MariaDB and MySQL up to 8.0."""

_VARIABLES = "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_%'"
_STATUS = (
    "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Rpl_semi_sync_%'"
    " OR Variable_name = 'Slaves_connected'"
)


def read(connection: Connection) -> dict[str, str]:
    """Return the server's settings and status of replication, by names in lower case.

    MySQL reveals the number of replicas only to an account that may see the connections of others
    (PROCESS). MariaDB reveals it to every account.
    """
    found: dict[str, str] = {}
    with connection.cursor() as cursor:
        for statement in (_VARIABLES, _STATUS):
            cursor.execute(statement)
            found |= {str(name).lower(): str(value) for name, value in cursor.fetchall()}
        cursor.execute("SHOW PROCESSLIST")
        dumps = sum(str(row[4]).startswith("Binlog Dump") for row in cursor.fetchall())
    found["replicas"] = str(max(dumps, int(found.get("slaves_connected", 0))))
    return found


def doubts(said: Mapping[str, str]) -> Iterator[str]:
    """Yield why a fail-over to a replica could lose acked requests; nothing without replicas.

    ``said`` is what read() returns. Each reason ends with the setting that removes it.
    """
    prefix = next((name for name in _NAMES if f"{name}enabled" in said), None)
    enabled = prefix is not None and said[f"{prefix}enabled"].upper() in {"ON", "1"}
    if not enabled:
        if int(said.get("replicas", 0)):
            yield "it does not wait for its replicas: set rpl_semi_sync_*_enabled"
        return
    if said.get(f"{prefix}status", "ON").upper() != "ON":
        yield "it has stopped waiting for its replicas, or has none: look at Rpl_semi_sync_*_status"
    if said.get(f"{prefix}wait_point", "").upper() == "AFTER_COMMIT":
        yield (
            "others see a row before its replica has it, and ack by it: set "
            f"{prefix}wait_point = AFTER_SYNC"
        )
    timeout = int(said.get(f"{prefix}timeout", LONG_ENOUGH))
    if timeout < LONG_ENOUGH:
        yield (
            f"it commits without its replica after {timeout / 1000:g} s: set "
            f"{prefix}timeout to {LONG_ENOUGH} ms or more"
        )
