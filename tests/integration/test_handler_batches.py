"""Batches share one commit, and each request succeeds or fails by itself."""

from __future__ import annotations

from collections import Counter

from tests.shop import Shop


def test_a_batch_shares_one_commit_and_a_failing_request_fails_alone(shop: Shop) -> None:
    """One of them is a repeat, one fails, one is rejected; all arrive at once."""
    shop.pipeline.run("worker", "migrate")
    orders: list[dict[str, object]] = [{} for _ in range(60)]
    orders[20] = {"do": "1 / 0"}
    orders[40] = {"do": "raise Reject('no')"}
    shop.send(*orders)
    shop.worker("worker-1", "--prefetch", "100", "--max-attempts", "1")
    shop.pipeline.wait_served(58)
    shop.pipeline.wait_all_settled()
    shop.assert_served(*(n for n in range(1, 61) if n not in {21, 41}))
    assert [(f["counter"], f["attempts"]) for f in shop.failures()] == [(21, 1), (41, 1)]
    # Rows of one commit share their transaction, and so the moment after it.
    commits = Counter(row.served_at.replace(microsecond=0) for row in shop.pipeline.rows())
    assert len(commits) < 10


def test_a_batch_rolled_back_by_the_server_is_served_again_as_a_whole(shop: Shop) -> None:
    """The fifth loses its connection half-way; no effect of the four before it is kept twice."""
    flag = str(shop.pipeline.folder / "flag")
    lose = f"""
if not os.path.exists({flag!r}):
    open({flag!r}, "w").close()
    db.execute("SELECT SLEEP(3)")
"""
    orders: list[dict[str, object]] = [{} for _ in range(20)]
    orders[4] = {"do": lose}
    shop.send(*orders)
    shop.worker("worker-1", "--prefetch", "50")
    sleeping = "SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(3)'"
    shop.pipeline.wait(lambda: shop.query(sleeping), "the fifth")
    [(number,)] = shop.query(sleeping)
    shop.query(f"KILL {number}")
    shop.pipeline.wait_served(20)
    shop.pipeline.wait_all_settled()
    shop.assert_served(*range(1, 21))
    assert shop.failures() == []


def test_a_batch_ends_before_it_holds_its_locks_too_long(shop: Shop) -> None:
    """Handlers that take a fifth of a second share a commit with few others or none."""
    shop.send(*({"do": "time.sleep(0.2)"} for _ in range(15)))
    shop.worker("worker-1", "--prefetch", "50")
    shop.pipeline.wait(lambda: 1 <= shop.pipeline.served() <= 14, "a commit before the last")
    shop.pipeline.wait_served(15)
    shop.assert_served(*range(1, 16))


def test_a_repeat_does_not_retry_a_recorded_failure(shop: Shop) -> None:
    """Whether the broker redelivers it or the client repeats it, alone or in a batch."""
    for name, prefetch in (("worker-1", "1"), ("worker-2", "50")):
        worker = shop.worker(name, "--prefetch", prefetch)
        for _ in range(3):
            shop.publish(7, do="raise Retry(after=1000)")
        shop.pipeline.wait(shop.failures, "a failure")
        shop.pipeline.wait_all_settled()
        [failure] = shop.failures()
        assert failure["attempts"] == 1
        # Another message with that identity is a conflict.
        shop.publish(7, do="pass")
        shop.pipeline.wait_event(worker, "request.dead_lettered")
        shop.assert_served()
        worker.kill()
