"""Which statements a handler may execute."""

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
        "SELECT * FROM users WHERE mail = 'a@b := GET_LOCK(1)' AND n > @@session.sql_mode",
        'SELECT "it\'s := \\" := " FROM stock -- INTO @x',
        "SELECT `INTO @x` /* GET_LOCK('a', 0) */ FROM stock # := ",
        "SELECT IS_USED_LOCK('a')",
        "SELECT `get_lock` FROM locks WHERE owner = 'a@b'",
        "SELECT /*! SQL_NO_CACHE */ items FROM stock WHERE mail = 'a@b'",
    ],
)
def test_statements_within_the_transaction_pass(statement: str) -> None:
    assert objection(statement) is None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT GET_LOCK('a', 0)",
        "DO get_lock ('a', 0)",
        "SELECT /*! GET_LOCK('a', 0) */",
        "SELECT 'it''s' , get_lock('a', 0)",
        "SELECT @n := 5",
        "SELECT items INTO @n FROM stock",
        "SELECT items INTO/* where */@n FROM stock",
        "SELECT items FROM stock INTO OUTFILE '/tmp/x'",
        "TABLE stock INTO dumpfile '/tmp/x'",
        "SELECT `get_lock`('a', 0)",
        "SELECT GET_LOCK/*!*/('a', 0)",
        "SELECT 1 INTO/*!*/@n",
        "SELECT 1 INTO /*M! */ /* where */ @n",
        "SELECT 1 /*!99999 ' */ INTO @n -- '",
        "do: BEGIN NOT ATOMIC COMMIT; END",
        "show :LOOP COMMIT; END LOOP",
    ],
)
def test_statements_whose_effects_outlive_the_request_are_refused(statement: str) -> None:
    assert objection(statement)
    assert objection(statement + " " * 5000)
