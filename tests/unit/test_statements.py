"""Which statements a handler may send."""

from __future__ import annotations

import pytest

from turnwise.statements import objection


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT items FROM stock",
        "(SELECT items FROM stock)",
        "WITH s AS (SELECT items FROM stock) SELECT * FROM s",
        "/* why */ SELECT items FROM stock FOR UPDATE",
        "INSERT INTO stock VALUES (2, 5)",
        "REPLACE INTO stock VALUES (2, 5)",
        "DELETE FROM stock WHERE sku = 2",
        "DO 1",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM stock",
        "INSERT INTO stock SELECT 3, COUNT(*) FROM calls",
    ],
)
def test_what_stays_within_the_transaction_passes(statement: str) -> None:
    assert objection(statement) is None
