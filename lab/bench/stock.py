"""The bench's handler: one statement, on a row that no other worker changes at that moment."""

from __future__ import annotations

from turnwise import Request, Transaction

SKUS = 100_000

PREPARE = (
    "CREATE TABLE stock (sku INT PRIMARY KEY, items INT NOT NULL) ENGINE = InnoDB",
    "INSERT INTO stock SELECT seq, 1000 FROM seq_0_to_99999",
)
TAKEN = "SELECT 1000 * COUNT(*) - SUM(items) FROM stock"


def serve(request: Request, db: Transaction) -> None:
    """Take one item from the stock."""
    db.execute("UPDATE stock SET items = items - %s WHERE sku = %s", (1, request.counter % SKUS))
