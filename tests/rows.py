"""Rows in great numbers, made by the database itself."""

from __future__ import annotations

from tests.pipeline import Pipeline


def numbers(digits: int) -> str:
    """Return the head of a statement with a table ``s`` of 10 ** digits numbers, ``n`` from 0."""
    ten = " UNION ALL ".join(f"SELECT {digit} AS n" for digit in range(10))
    names = [f"d{place}" for place in range(digits)]
    total = " + ".join(f"{10**place} * {name}.n" for place, name in enumerate(names))
    tables = ", ".join(f"d AS {name}" for name in names)
    return f"WITH d AS ({ten}), s AS (SELECT {total} AS n FROM {tables})"


def insert_failures(pipeline: Pipeline, client: str, count: int) -> None:
    """Add failures that were given up, all at the same moment."""
    pipeline.servers.database.query(
        "INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error,"
        f" traceback, reason, failed_at, failed_by, due_at) {numbers(4)}"
        " SELECT %s, n + 1, 'm', UTC_TIMESTAMP(6), 9, 3, 'E: it', NULL, 'died',"
        " UTC_TIMESTAMP(6), 'worker-1', NULL FROM s WHERE n < %s",
        client,
        count,
        name=pipeline.name,
    )
