"""Handlers that kill their process, take too long, or are running when the worker must stop."""

from __future__ import annotations

import signal
import time

from lab.harness.process import free_port
from lab.harness.proxy import Proxy
from tests.shop import Shop
from turnwise.errors import ExitCode


def test_a_request_that_kills_its_worker_is_given_up_after_three_deaths(shop: Shop) -> None:
    """The others of its batch are served exactly once all the same."""
    orders: list[dict[str, object]] = [{} for _ in range(20)]
    orders[9] = {"do": "os._exit(9)"}
    shop.send(*orders)
    for number in range(1, 4):
        worker = shop.start(f"worker-{number}", "--prefetch", "50")
        assert worker.wait(60) == 9
    survivor = shop.worker("worker-4", "--prefetch", "50")
    shop.pipeline.wait_event(survivor, "request.failed")
    shop.pipeline.wait_served(19)
    shop.pipeline.wait_all_settled()
    shop.assert_served(*(n for n in range(1, 21) if n != 10))
    [failure] = shop.failures()
    assert (failure["counter"], failure["reason"], failure["deaths"]) == (10, "died", 3)
    assert failure["due_at"] is None
    assert survivor.alive()


def test_a_failure_that_kills_its_worker_is_given_up_after_three_deaths(shop: Shop) -> None:
    """Its message has left the queue, so no redelivery flag shows that it was tried before."""
    shop.query("CREATE TABLE deadly (n INT) ENGINE = InnoDB")
    shop.send({"do": "os._exit(9) if db.execute('SELECT * FROM deadly').fetchall() else 1 / 0"})
    first = shop.worker("worker-0")
    shop.pipeline.wait(shop.failures, "a failure")
    first.kill()
    shop.query("INSERT INTO deadly VALUES (1)")
    for number in range(1, 4):
        shop.query("UPDATE failures SET due_at = UTC_TIMESTAMP(6)")
        worker = shop.start(f"worker-{number}")
        assert worker.wait(60) == 9
    shop.query("UPDATE failures SET due_at = UTC_TIMESTAMP(6)")
    shop.worker("worker-4")
    shop.pipeline.wait(lambda: shop.failures()[0]["due_at"] is None, "given up")
    [failure] = shop.failures()
    assert (failure["reason"], failure["deaths"], failure["attempts"]) == ("died", 3, 4)
    shop.assert_served()


def test_a_worker_that_only_loses_its_deliveries_has_not_died(shop: Shop) -> None:
    """Each time the database goes away first, so no outcome can be recorded."""
    broker, amqp_url = shop.pipeline.broker_proxy()
    port = free_port()
    mysql_url = shop.pipeline.servers.database.url(shop.pipeline.name, port)
    gate = shop.pipeline.folder / "gate"
    shop.send({"do": f"while not os.path.exists({str(gate)!r}): db.execute('SELECT SLEEP(0.1)')"})
    worker = shop.start("worker-1", AMQP_URL=amqp_url, MYSQL_URL=mysql_url)
    for times in range(1, 6):
        with Proxy(shop.pipeline.servers.database.port, port):
            shop.pipeline.wait_event(worker, "worker.consuming", times)
            shop.wait_handling()
        broker.cut()
        shop.pipeline.wait_event(worker, "broker.away", times)
    shop.pipeline.proxy(shop.pipeline.servers.database.port, port)
    gate.touch()
    shop.pipeline.wait_served(1)
    shop.assert_served(1)
    shop.pipeline.wait(lambda: not shop.failures(), "no failure")


def test_without_a_redelivery_nothing_is_recorded_in_advance(shop: Shop) -> None:
    shop.worker()
    shop.query("CREATE TRIGGER noted BEFORE INSERT ON failures FOR EACH ROW SET NEW.client = NULL")
    shop.send({}, {}, {})
    shop.pipeline.wait_served(3)
    shop.assert_served(1, 2, 3)


def test_a_slow_handler_misses_no_heartbeat(shop: Shop) -> None:
    worker = shop.worker(AMQP_URL=f"{shop.pipeline.amqp_url}?heartbeat=2")
    shop.send({"do": "time.sleep(4)"}, {"do": "db.execute('SELECT SLEEP(4)')"})
    shop.pipeline.wait_served(2)
    names = [event["event"] for event in shop.pipeline.events(worker)]
    assert "broker.away" not in names
    assert names.count("worker.consuming") == 1
    shop.assert_served(1, 2)


def test_a_statement_that_takes_too_long_is_killed_on_the_server(shop: Shop) -> None:
    # A second attempt might begin before the test has seen the first.
    worker = shop.worker("worker-1", "--time-limit", "1s", "--max-attempts", "1")
    shop.send({"do": "db.execute('SELECT SLEEP(1000)')"})
    shop.pipeline.wait(shop.failures, "a failure")
    [failure] = shop.failures()
    assert (failure["reason"], failure["attempts"]) == ("timeout", 1)
    running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%%'"
    shop.pipeline.wait(lambda: shop.query(running) == [(0,)], "the statement's end")
    # The process survives.
    shop.send({})
    shop.pipeline.wait_served(1)
    shop.assert_served(2)
    assert worker.alive()


def test_a_handler_that_swallows_its_time_limit_fails_all_the_same(shop: Shop) -> None:
    shop.worker("worker-1", "--time-limit", "1s", "--max-attempts", "1")
    swallow = (
        "for _ in range(30):\n"
        "    try:\n"
        "        time.sleep(0.1); db.execute('SELECT 1')\n"
        "    except BaseException:\n"
        "        pass"
    )
    shop.send({"do": swallow})
    shop.pipeline.wait(shop.failures, "a failure")
    [failure] = shop.failures()
    assert (failure["reason"], failure["due_at"]) == ("timeout", None)
    shop.assert_served()


def test_a_handler_that_does_not_return_ends_the_process(shop: Shop) -> None:
    worker = shop.worker("worker-1", "--time-limit", "1s")
    shop.send({"do": "time.sleep(300)"})
    assert worker.wait(30) == ExitCode.STUCK
    [failure] = shop.failures()
    assert (failure["reason"], failure["attempts"], failure["deaths"]) == ("timeout", 1, 0)
    # It is redelivered, and recognized.
    shop.query("UPDATE failures SET due_at = DATE_ADD(due_at, INTERVAL 1 HOUR)")
    shop.worker("worker-2", "--time-limit", "1s")
    shop.pipeline.wait_all_settled()
    assert shop.failures()[0]["attempts"] == 1
    shop.assert_served()


def test_a_stop_waits_for_the_handler(shop: Shop) -> None:
    """The handler itself asks for it, so that it is sure to be running."""
    worker = shop.worker()
    shop.send({"do": f"os.kill(os.getpid(), {signal.SIGTERM:d}); time.sleep(3)"})
    assert worker.wait(60) == ExitCode.OK
    shop.assert_served(1)


def test_a_stop_postpones_a_handler_that_takes_too_long(shop: Shop) -> None:
    """The attempt does not count, no death is recorded, and another worker serves it at once."""
    shop.query("CREATE TABLE quick (n INT) ENGINE = InnoDB")
    worker = shop.worker("worker-1", "--grace", "24s")
    shop.send(
        {"do": "db.execute('SELECT * FROM quick').fetchall() or db.execute('SELECT SLEEP(100)')"}
    )
    shop.wait_handling()
    worker.signal(signal.SIGTERM)
    begun = time.monotonic()
    assert worker.wait(24) == ExitCode.OK
    assert time.monotonic() - begun < 24
    shop.query("INSERT INTO quick VALUES (1)")
    [failure] = shop.failures()
    assert (failure["attempts"], failure["deaths"], failure["reason"]) == (0, 0, "failed")
    shop.worker("worker-2")
    shop.pipeline.wait_served(1)
    shop.assert_served(1)


def test_a_stop_postpones_a_handler_that_is_not_using_the_database(shop: Shop) -> None:
    """Its connection is shut down meanwhile, so recording the outcome needs another one."""
    worker = shop.worker("worker-1", "--grace", "24s")
    go_on = shop.pipeline.folder / "go-on"
    shop.send({"do": f"while not os.path.exists({str(go_on)!r}): time.sleep(0.05)"})
    shop.wait_handling()
    worker.signal(signal.SIGTERM)
    shop.pipeline.wait_event(worker, "handler.ended")
    go_on.touch()
    assert worker.wait(24) == ExitCode.OK
    [failure] = shop.failures()
    assert (failure["attempts"], failure["deaths"], failure["reason"]) == (0, 0, "failed")
    shop.worker("worker-2")
    shop.pipeline.wait_served(1)
    shop.assert_served(1)


def test_the_longest_stop_fits_the_grace_period(shop: Shop) -> None:
    """The handler never returns, and both database and broker hang."""
    worker = shop.worker("worker-1", "--grace", "24s")
    shop.send({"do": "time.sleep(300)"})
    shop.wait_handling()
    shop.pipeline.servers.database.runner.pause()
    shop.pipeline.servers.rabbitmq.runner.pause()
    try:
        begun = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.wait(30) == ExitCode.STUCK
        assert time.monotonic() - begun < 24
    finally:
        shop.pipeline.servers.database.runner.resume()
        shop.pipeline.servers.rabbitmq.runner.resume()
