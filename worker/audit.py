"""What the table holds, per client: served without a gap up to where, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from turnwise.database import Connection

_CLIENTS = """
    SELECT client, COUNT(*), COUNT(DISTINCT counter), MAX(counter)
    FROM requests GROUP BY client ORDER BY client
"""
_GAPS = """
    SELECT counter + 1, following - 1
    FROM (
        SELECT counter, LEAD(counter) OVER (ORDER BY counter) AS following
        FROM (SELECT 0 AS counter UNION ALL SELECT counter FROM requests WHERE client = %s) AS all_
    ) AS pairs
    WHERE following > counter + 1 ORDER BY counter LIMIT 10
"""
_REPLICAS = "SELECT served_by, COUNT(*) FROM requests GROUP BY served_by ORDER BY served_by"


@dataclass(frozen=True, slots=True)
class Audit:
    """One client's account. ``gaps`` holds the first few: (first, last) counter missing each."""

    client: str
    served: int
    highest: int
    missing: int
    repeated: int
    resume_at: int
    gaps: tuple[tuple[int, int], ...]

    @property
    def holds(self) -> bool:
        """Whether 1 ... highest are all there, each once."""
        return not self.missing and not self.repeated


def audit(connection: Connection) -> list[Audit]:
    """Look at every client. A gap may close by itself: its request may be in a worker's hand."""
    audits = []
    with connection.cursor() as cursor:
        cursor.execute(_CLIENTS)
        for client, rows, served, highest in cursor.fetchall():
            gaps: tuple[tuple[int, int], ...] = ()
            if highest != served:
                cursor.execute(_GAPS, (client,))
                gaps = tuple((int(first), int(last)) for first, last in cursor.fetchall())
            audits.append(
                Audit(
                    client=client,
                    served=served,
                    highest=highest,
                    missing=highest - served,
                    repeated=rows - served,
                    resume_at=gaps[0][0] if gaps else highest + 1,
                    gaps=gaps,
                )
            )
    return audits


def served_by(connection: Connection) -> dict[str, int]:
    """Return how many requests each replica served."""
    with connection.cursor() as cursor:
        cursor.execute(_REPLICAS)
        return dict(cursor.fetchall())
