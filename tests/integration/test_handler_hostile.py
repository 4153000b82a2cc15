"""Handlers that do to the process what no handler should."""

from __future__ import annotations

import signal

import pytest

from tests.pipeline import Pipeline
from tests.shop import Shop

NOT_RUN = """
    from turnwise import Reject

    def generator(request, db):
        db.execute("UPDATE stock SET items = items - 1 WHERE sku = 1")
        yield

    async def coroutine(request, db):
        db.execute("UPDATE stock SET items = items - 1 WHERE sku = 1")

    def serve(request, db):
        if "returned" in request.message:
            return Reject("nothing was ordered")
        kind = coroutine if "async" in request.message else generator
        return kind(request, db)
"""
FORK = """
if os.fork() == 0:
    {child}
assert os.wait()[1] == {code} << 8, "the child's end"
"""


def test_a_handler_that_never_runs_serves_nothing(pipeline: Pipeline) -> None:
    shop = Shop(pipeline, NOT_RUN)
    worker = shop.worker("worker-1", "--max-attempts", "1")
    shop.send({"do": "async"}, {}, {"do": "returned"})
    pipeline.wait(lambda: len(shop.failures()) == 3, "three failures")
    assert [failure["error"] for failure in shop.failures()] == [
        "TypeError: the handler is async: it returned a coroutine, and did nothing",
        "TypeError: the handler is a generator, and did nothing",
        "TypeError: the handler returned Reject: raise it instead",
    ]
    shop.assert_served()
    assert "never awaited" not in worker.log.read_text()


def test_a_forked_child_never_uses_the_workers_connections(shop: Shop) -> None:
    worker = shop.worker("worker-1", "--max-attempts", "1", "--prefetch", "10")
    children = [
        ("sys.exit(3)", 3),
        ("sys.exit()", 0),
        ("raise ValueError", 1),
        ("db.execute('UPDATE stock SET items = 0')", 1),
        ("sys.exit('a text')", 1),
    ]
    shop.send(*({"do": FORK.format(child=child, code=code)} for child, code in children))
    shop.send({"do": "os.fork()"}, {"do": "os.fork() or sys.exit(1)"}, {})
    shop.pipeline.wait(lambda: shop.pipeline.served() == 8 or shop.failures(), "all")
    assert shop.failures() == []
    shop.assert_served(*range(1, 9))
    assert "db belongs to the process" in worker.log.read_text()
    names = [event["event"] for event in shop.pipeline.events(worker)]
    assert names.count("worker.consuming") == 1
    assert not {"broker.away", "database.away", "worker.stopped"} & set(names)


def test_ending_the_transaction_behind_db_fails_the_attempt(shop: Shop) -> None:
    shop.worker("worker-1", "--max-attempts", "1")
    shop.send({"do": "db.send = None"}, {"do": "db._connection.rollback()\nraise SystemExit"})
    shop.pipeline.wait(lambda: len(shop.failures()) == 2, "two failures")
    assert "ended the transaction" in shop.failures()[1]["error"]
    shop.assert_served()


@pytest.mark.parametrize(
    "deed",
    [
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "import threading; threading.Thread(target=time.sleep, args=(1000,)).start()",
        "import logging.config; logging.config.dictConfig({'version': 1})",
        "sys.setrecursionlimit(70)",
        "os.close(0); os.close(1); os.close(2)",
    ],
)
def test_whatever_a_handler_does_to_the_process_the_worker_continues_and_stops(
    shop: Shop, deed: str
) -> None:
    worker = shop.worker("worker-1", "--max-attempts", "1")
    shop.send({"do": deed}, {"do": "1 / 0"}, {})
    shop.pipeline.wait(lambda: shop.failures() and shop.pipeline.served() == 2, "all")
    shop.assert_served(1, 3)
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    if "close" not in deed:
        events = [event["event"] for event in shop.pipeline.events(worker)]
        assert "request.failed" in events
        assert "worker.stopped" in events
    assert ("handler.threads_left" in worker.log.read_text()) == ("Thread" in deed)
