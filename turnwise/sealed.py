"""The seal: a moment up to which every row is counted, so that an audit need not look for others.

It is kept in the row of ``audits`` with an empty client: ``through`` is that moment, in
microseconds since 1970, UTC, and ``repeated`` is incremented whenever the seal is broken.
worker/sealing.py moves it, and explains why it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from turnwise.database import Connection, fetch

SEAL_AGE = timedelta(minutes=15)
"""The least age of a row that is sealed. A statement that inserts a row takes far less."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, as the driver reads it
_MICROSECOND = timedelta(microseconds=1)
_SEAL = "SELECT UTC_TIMESTAMP(6), through, repeated FROM audits WHERE client = ''"


@dataclass(frozen=True, slots=True)
class Seal:
    """The seal, as read at ``now`` by the database's clock."""

    now: datetime
    micros: int
    broken: int
    """How often it was broken."""

    @property
    def moment(self) -> datetime:
        """Rows served up to here are counted, if the seal is ``sound``."""
        return _EPOCH + self.micros * _MICROSECOND

    @property
    def sound(self) -> bool:
        """Whether it is unbroken, and the database's clock was not set back towards it.

        Behind an unsound seal, rows may appear that are not counted.
        """
        return self.micros > 0 and self.moment + SEAL_AGE / 2 <= self.now


def micros(moment: datetime) -> int:
    """Return a moment as it is stored. Pure."""
    return (moment - _EPOCH) // _MICROSECOND


def read_seal(connection: Connection) -> Seal | None:
    """Return the seal; None if there was never one."""
    rows = fetch(connection, _SEAL)
    return Seal(rows[0][0], int(rows[0][1]), int(rows[0][2])) if rows else None
