"""``db`` blocks statements that end the transaction, and notices when it ends all the same."""

from __future__ import annotations

import pytest

from tests.shop import Shop

REFUSED = [
    "COMMIT",
    "commit work",
    "ROLLBACK",
    "BEGIN",
    "START TRANSACTION",
    "SAVEPOINT a",
    "ROLLBACK TO SAVEPOINT request",
    "RELEASE SAVEPOINT request",
    "SET autocommit = 1",
    "SET @@autocommit = 1",
    "LOCK TABLES stock WRITE",
    "UNLOCK TABLES",
    "CREATE TABLE other (n INT)",
    "CREATE TEMPORARY TABLE other (n INT)",
    "ALTER TABLE stock ADD extra INT",
    "DROP TABLE stock",
    "TRUNCATE TABLE stock",
    "RENAME TABLE stock TO other",
    "ANALYZE TABLE stock",
    "FLUSH TABLES",
    "GRANT SELECT ON *.* TO nobody",
    "CALL commits()",
    "XA START 'a'",
    "PREPARE p FROM 'COMMIT'",
    "EXECUTE IMMEDIATE 'COMMIT'",
    "LOAD DATA INFILE 'x' INTO TABLE stock",
    "BEGIN NOT ATOMIC COMMIT; END",
    "SET STATEMENT max_statement_time = 1 FOR COMMIT",
    " \n\t COMMIT",
    "/* a comment */ COMMIT",
    "-- a comment\nCOMMIT",
    "# a comment\nCOMMIT",
    "/*! COMMIT */",
    "/*!50000 COMMIT */",
    "/*M! COMMIT */",
    "(COMMIT)",
    "SELECT 1; COMMIT",
    "SELECT 1 /*! ; COMMIT */",
    "",
]


def test_a_statement_that_would_end_the_transaction_fails_the_attempt(shop: Shop) -> None:
    """Even if the handler swallows the error; no effect of the request remains."""
    shop.query("CREATE PROCEDURE commits() COMMIT")
    worker = shop.worker("worker-1", "--max-attempts", "1")
    swallow = "try:\n    db.execute({!r})\nexcept Exception:\n    pass\n"
    # The server itself refuses multiple statements; the handler may catch that error.
    own = [each for each in REFUSED if not each.startswith("SELECT")]
    shop.send(
        *({"do": f"db.execute({statement!r})"} for statement in REFUSED),
        *({"do": swallow.format(statement)} for statement in own),
    )
    count = len(REFUSED) + len(own)
    shop.pipeline.wait(lambda: len(shop.failures()) == count, f"{count} failures")
    shop.assert_served()
    for failure, statement in zip(shop.failures(), [*REFUSED, *own], strict=True):
        expected = "ProgrammingError" if statement.startswith("SELECT") else "NotAllowed: a handler"
        assert failure["error"].startswith(expected), (statement, failure)
    assert shop.query("SHOW COLUMNS FROM stock LIKE 'extra'") == []
    assert worker.alive()


def test_an_error_that_ends_only_its_statement_may_be_caught(shop: Shop) -> None:
    shop.worker()
    handle = """
import pymysql
try:
    db.execute("INSERT INTO stock VALUES (1, 1)")
except pymysql.IntegrityError:
    pass
"""
    shop.send({"do": handle})
    shop.pipeline.wait_served(1)
    shop.assert_served(1)


def test_rows_are_fetched_and_counted(shop: Shop) -> None:
    shop.worker("worker-1", "--max-attempts", "1")
    check = """
found = db.execute("SELECT sku, items FROM stock WHERE sku = %(sku)s", {"sku": 1})
assert (found.rowcount, found.fetchone(), found.fetchone()) == (1, (1, 999999), None)
assert db.execute("SELECT 1 UNION SELECT 2").fetchall() == [(1,), (2,)]
assert [n for n, in db.execute("SELECT 1 UNION SELECT 2")] == [1, 2]
changed = db.execute("UPDATE stock SET items = items + 0 WHERE sku = 5")
assert changed.rowcount == 0
assert db.execute("INSERT INTO calls (client, counter, pid) VALUES ('x', 1, 1)").lastrowid > 0
twice = "INSERT INTO calls (client, counter, pid) VALUES ('x', 2, 1), ('x', 3, 1)"
assert db.execute(twice).rowcount == 2
if "MariaDB" in db.execute("SELECT VERSION()").fetchone()[0]:
    assert db.execute(twice + " RETURNING counter").fetchall() == [(2,), (3,)]
assert db.execute("UPDATE calls SET pid = 2 WHERE client = 'x' AND counter > 1").rowcount > 1
db.execute("DELETE FROM calls WHERE client = 'x'")
assert db.execute("SELECT '100%'").fetchone() == ("100%",)
"""
    shop.send({"do": check})
    shop.pipeline.wait(lambda: shop.pipeline.served() or shop.failures(), "an outcome")
    assert shop.failures() == []
    shop.assert_served(1)


def test_swallowing_a_deadlock_does_not_let_the_handler_continue(shop: Shop) -> None:
    """The request is served again at once from the start, which does not count as an attempt."""
    worker = shop.worker()
    shop.query("INSERT INTO stock VALUES (2, 0), (3, 0)")
    ballast = f"INSERT INTO stock VALUES {','.join(f'({sku}, 0)' for sku in range(100, 400))}"
    victim = """
for sku in (2, 3):
    try:
        db.execute("UPDATE stock SET items = items + 1 WHERE sku = %s", (sku,))
        open(os.environ["SEEN"], "a").write("x")
    except Exception:
        pass
    time.sleep(1)
"""
    # The other transaction weighs more, so that the handler's becomes the victim.
    with shop.pipeline.servers.database.connect(shop.pipeline.name) as other:
        other.execute("BEGIN")
        other.execute(ballast)
        other.execute("UPDATE stock SET items = items + 10 WHERE sku = 3")
        shop.send(
            {"do": victim.replace('os.environ["SEEN"]', repr(str(shop.pipeline.folder / "seen")))}
        )
        shop.pipeline.wait((shop.pipeline.folder / "seen").exists, "the first update")
        other.execute("UPDATE stock SET items = items + 10 WHERE sku = 2")
        other.execute("ROLLBACK")
    shop.pipeline.wait_served(1)
    shop.pipeline.assert_exactly_once(shop.pipeline.client(), 1)
    assert shop.query("SELECT items FROM stock WHERE sku IN (2, 3)") == [(1,), (1,)]
    assert shop.failures() == []
    [away, *_] = [e for e in shop.pipeline.events(worker) if e["event"] == "database.away"]
    assert "1213" in away["error"]


def test_swallowing_a_lost_connection_does_not_let_the_handler_continue(shop: Shop) -> None:
    worker = shop.worker()
    once = """
me = db.execute("SELECT CONNECTION_ID()").fetchone()[0]
flag = {flag!r}
if not os.path.exists(flag):
    open(flag, "w").close()
    for _ in range(50):
        try:
            db.execute("SELECT SLEEP(0.1)")
        except Exception:
            pass
"""
    shop.send({"do": once.format(flag=str(shop.pipeline.folder / "flag"))})
    shop.pipeline.wait((shop.pipeline.folder / "flag").exists, "the handler at work")
    [(number,)] = shop.query("SELECT trx_mysql_thread_id FROM information_schema.innodb_trx")
    shop.query(f"KILL {number}")
    shop.pipeline.wait_served(1)
    shop.assert_served(1)
    assert shop.failures() == []
    assert "database.away" in [e["event"] for e in shop.pipeline.events(worker)]


IN_A_THREAD = """
import threading
thread = threading.Thread(target=lambda: db.execute("SELECT 1"))
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    ("do", "error"),
    [
        (IN_A_THREAD, "NotAllowed: db belongs to the thread"),
        ("late = getattr(sys, 'late', None)\nsys.late = db\nlate.execute('SELECT 1')",
         "AttributeError"),
        ("db.execute(b'SELECT 1')", "TypeError: a statement is a str, not bytes"),
        ("db.send('no such queue', 'x')", "InvalidRequest: queue"),
        ("db.send('q', 'x' * 20000)", "InvalidRequest: message"),
        ("db.execute('SELECT * FROM nonesuch')", "ProgrammingError"),
        ("db.execute('SELECT %s', ())", "ProgrammingError: not enough arguments"),
    ],
)  # fmt: skip
def test_misuse_of_db_raises_a_clear_error(shop: Shop, do: str, error: str) -> None:
    shop.worker("worker-1", "--max-attempts", "1")
    shop.send({"do": do})
    shop.pipeline.wait(shop.failures, "a failure")
    assert shop.failures()[0]["error"].startswith(error)
    shop.assert_served()


def test_db_is_closed_once_the_handler_has_returned(shop: Shop) -> None:
    shop.worker("worker-1", "--max-attempts", "1")
    shop.send({"do": "sys.kept = db"}, {"do": "sys.kept.execute('SELECT 1')"})
    shop.pipeline.wait(shop.failures, "a failure")
    assert shop.failures()[0]["error"] == "NotAllowed: db is closed: the handler has returned"
    shop.assert_served(1)
