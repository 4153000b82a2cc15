"""A shop's orders: each takes items from the stock, and sends a receipt."""

from __future__ import annotations

import json

from turnwise import Reject, Request, Retry, Transaction


def serve(request: Request, db: Transaction) -> None:
    """Serve an order, such as ``{"sku": "apple", "items": 2}``."""
    try:
        order = json.loads(request.message)
        sku, items = str(order["sku"]), int(order["items"])
    except (ValueError, KeyError, TypeError) as error:
        raise Reject(f"no order: {error!r}") from error
    if items < 1:
        raise Reject("nothing was ordered")
    taken = db.execute(
        "UPDATE stock SET items = items - %s WHERE sku = %s AND items >= %s", (items, sku, items)
    )
    if not taken.rowcount:
        raise Retry(f"waits for {sku} to come in", after=10)
    db.execute(
        "INSERT INTO orders (id, sku, items) VALUES (%s, %s, %s)", (request.message_id, sku, items)
    )
    db.send("receipts", json.dumps({"order": request.message_id, "sku": sku, "items": items}))
