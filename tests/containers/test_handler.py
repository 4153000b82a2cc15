"""A handler in the compose file: a custom image of five lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.containers.stack import ROOT, Stack
from tests.door import exchange

pytestmark = pytest.mark.timeout(900)

ORDERS = ROOT / "examples" / "orders"
IMAGE = "turnwise-test-orders"


@pytest.fixture
def shop(stack: Stack) -> Iterator[Stack]:
    """The stack, with workers that run the handler of examples/orders."""
    assert len((ORDERS / "Dockerfile").read_text().splitlines()) <= 5
    stack.run("docker", "build", "--tag", IMAGE, str(ORDERS))
    stack.query(f"USE counter_db; {(ORDERS / 'tables.sql').read_text()}")
    # Its requests would not be orders.
    stack.compose("stop", "producer")
    stack.environment |= {"WORKER_IMAGE": IMAGE, "WORKER_HANDLER": "orders:serve"}
    try:
        stack.up("worker")
        yield stack
    finally:
        for name in ("WORKER_IMAGE", "WORKER_HANDLER"):
            stack.environment.pop(name)
        stack.compose("exec", "-T", "worker", "worker", "failed", "drop", "--all")
        stack.up()
        stack.query("USE counter_db; DROP TABLE orders; DROP TABLE stock")
        stack.run("docker", "rmi", IMAGE)


def test_orders_are_served_by_an_image_of_five_lines(shop: Stack) -> None:
    token = (shop.secrets / "door-token").read_text().strip()
    door = HTTPConnection("127.0.0.1", int(shop.ports["DOOR_PORT"]), timeout=20)
    for number, items in enumerate([2, 3, 0], 1):
        order = json.dumps({"sku": "apple", "items": items}).encode()
        path = f"/requests/shop/{number}"
        answer = exchange(door, "PUT", path, order, Authorization=f"Bearer {token}")
        assert answer.status == 201
    door.close()
    shop.wait(lambda: shop.served("shop") == 2, "two orders are served")
    failed = "SELECT counter, reason FROM counter_db.failures WHERE client = 'shop'"
    shop.wait(lambda: shop.query(failed) == [["3", "rejected"]], "one is rejected")
    assert shop.query("SELECT items FROM counter_db.stock WHERE sku = 'apple'") == [["95"]]
    assert shop.query("SELECT id, items FROM counter_db.orders ORDER BY id") == [
        ["shop/1", "2"], ["shop/2", "3"],
    ]  # fmt: skip
    # It lives in the image's own folder, and runs with no more rights than any worker.
    for name in shop.containers("worker"):
        assert shop.inspect(name, ".Config.Image") == IMAGE
        assert shop.inspect(name, ".Config.User") not in {"", "root", "0"}
