"""``worker failed``: list, show, retry, drop."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.shop import Shop
from turnwise.errors import ExitCode


@pytest.fixture
def failed(shop: Shop) -> Shop:
    """Return a shop with three failures and no worker: 1 is rejected, 2 waits, 3 is given up."""
    worker = shop.worker("worker-1", "--max-attempts", "1")
    shop.query("CREATE TABLE good (n INT) ENGINE = InnoDB")
    do = "if not db.execute('SELECT * FROM good').rowcount: raise {}"
    for error in ("Reject('no')", "KeyError('sku')", "Retry(after=3)"):
        shop.send({"do": do.format(error)})
    shop.pipeline.wait(lambda: len(shop.failures()) == 3, "three failures")
    worker.kill()
    shop.query("UPDATE failures SET due_at = '2100-01-01' WHERE counter = 2")
    return shop


def listed(shop: Shop) -> list[dict[str, Any]]:
    lines = shop.pipeline.run("worker", "failed", "list", "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_failures_are_listed_and_shown(failed: Shop) -> None:
    client = failed.pipeline.client()
    assert [(each["id"], each["state"], each["reason"]) for each in listed(failed)] == [
        (f"{client}/1", "given up", "rejected"),
        (f"{client}/2", "waiting", "failed"),
        (f"{client}/3", "given up", "failed"),
    ]
    text = failed.pipeline.run("worker", "failed", "list", "--limit", "2")
    assert f"{client}/1  given up, attempts 1\n    no\n" in text.stdout
    assert "KeyError: 'sku'" in text.stdout
    assert "3 in all" in text.stderr
    shown = failed.pipeline.run("worker", "failed", "show", f"{client}/2").stdout
    assert "KeyError: 'sku'" in shown
    # Only frames of the user's code, none of Turnwise's.
    assert "orders.py" in shown
    assert "handler.py" not in shown
    [one] = [
        json.loads(failed.pipeline.run("worker", "failed", "show", "--json", f"{client}/3").stdout)
    ]
    assert json.loads(one["message"])["do"].endswith("raise Retry(after=3)")


def test_a_retried_failure_is_served_at_once(failed: Shop) -> None:
    client = failed.pipeline.client()
    failed.query("INSERT INTO good VALUES (1)")
    run = failed.pipeline.run
    assert run("worker", "failed", "retry", f"{client}/2").stdout == "retrying 1\n"
    failed.worker("worker-2")
    failed.pipeline.wait_served(1)
    assert run("worker", "failed", "retry", "--client", client).stdout == "retrying 2\n"
    failed.pipeline.wait_served(3)
    failed.assert_served(1, 2, 3)
    assert run("worker", "failed", "list").stdout == "no failures\n"
    assert run("worker", "failed", "retry", "--all").stdout == "retrying 0\n"


def test_a_dropped_failure_is_accounted_for_and_never_served(failed: Shop) -> None:
    client = failed.pipeline.client()
    run = failed.pipeline.run
    assert run("worker", "failed", "drop", f"{client}/1", f"{client}/2").stdout == "dropped 2\n"
    assert [each["state"] for each in listed(failed)] == ["dropped", "dropped", "given up"]
    assert [each["message"] for each in listed(failed)][:2] == ["", ""]
    failed.query("INSERT INTO good VALUES (1)")
    # Neither a retry nor a repeat brings it back.
    assert run("worker", "failed", "retry", "--all").stdout == "retrying 1\n"
    failed.worker("worker-2")
    failed.pipeline.wait_served(1)
    body = json.dumps(
        {"client": client, "counter": 1, "message": "x", "sent_at": "2026-01-01T00:00:00Z"}
    )
    failed.pipeline.publish(body.encode())
    failed.pipeline.wait_all_settled()
    failed.assert_served(3)
    assert failed.pipeline.ready("requests.dead") == 0


def test_wrong_usage_of_worker_failed_is_refused(failed: Shop) -> None:
    run = failed.pipeline.run
    assert "name the failures by ID" in run("worker", "failed", "drop", code=ExitCode.USAGE).stderr
    run("worker", "failed", "retry", "--all", "--client", "x", code=ExitCode.USAGE)
    assert "CLIENT/COUNTER" in run("worker", "failed", "show", "x", code=ExitCode.USAGE).stderr
    missing = run("worker", "failed", "drop", "nobody/1", code=ExitCode.FAILED)
    assert "no failure nobody/1" in missing.stderr
    run("worker", "failed", "show", "nobody/1", code=ExitCode.FAILED)


def test_many_due_failures_drain_alongside_new_requests(shop: Shop) -> None:
    """Neither waits for the end of the other."""
    due = (
        f"('old', {counter}, '{{}}', UTC_TIMESTAMP(6), 1, 0, 'x', NULL, 'failed',"
        " UTC_TIMESTAMP(6), 'nobody', UTC_TIMESTAMP(6))"
        for counter in range(1, 1_001)
    )
    columns = (
        "client, counter, message, sent_at, attempts, deaths, error, traceback, reason, failed_at,"
        " failed_by, due_at"
    )
    shop.query(f"INSERT INTO failures ({columns}) VALUES {','.join(due)}")
    shop.send(*({} for _ in range(100)))
    shop.worker("worker-1", "--prefetch", "20")
    shop.worker("worker-2", "--prefetch", "20")
    shop.pipeline.wait_served(1_100, timeout=100, interval=0.2)
    shop.pipeline.wait(lambda: not shop.failures(), "no failure left")
    shop.assert_served(*range(1, 1_001), *range(1, 101))
    rows = [row.client for row in shop.pipeline.rows()]
    # Neither the few new requests nor the many old failures waited for the others.
    assert rows.index("old") < 200
    assert max(n for n, client in enumerate(rows) if client != "old") < 900
