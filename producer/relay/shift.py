"""An active relay, from when it takes over until another does, or until it stops."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from producer.relay.aside import Aside
from producer.relay.batch import Batch
from producer.relay.ledger import Charge, Ledger
from producer.relay.line import Line, Numbered, Row, restore
from producer.relay.outlet import Outlet
from producer.relay.sight import Look, Sight
from producer.relay.vitals import Vitals
from turnwise.broker import Broker
from turnwise.errors import InvalidRequest, Transient
from turnwise.limits import check_queue
from turnwise.loop import LONGEST_TURN

POLL = 0.05
"""Seconds between two polls of the outbox while no rows are waiting."""

SHARE = 4
"""Each poll is followed by a pause of this many times its duration, to spare a slow database."""

RENEW = 1.0
"""Seconds without a write after which the relay renews its lease."""

BATCH = 1000
"""The most requests to number in one commit."""

MOST = 2 * BATCH
"""The most requests that are numbered and not confirmed: as many are kept in memory, and may be
published again by the next relay."""

CHANNELS = 500
"""The most queues to publish to at the same time, each on a channel of its own. RabbitMQ allows
2,047 on a connection by default. More queues take turns."""

SWEEPS = 10
"""One row in this many is reserved for rows that became visible late, far below the others."""

STALLED = 10.0
"""Seconds without any confirm, on a connection that is not blocked, after which another relay
should try: this one may be cut off from RabbitMQ without knowing it."""


class Shift:
    """The work of one epoch. Raises TakenOver when that ends, Transient if a server is lost."""

    def __init__(self, broker: Broker, ledger: Ledger, charge: Charge, vitals: Vitals) -> None:
        self._broker = broker
        self._ledger = ledger
        self._epoch = charge.epoch
        self._vitals = vitals
        self._highest = charge.highest
        self._sight = Sight(charge.highest, charge.swept)
        self._outlets = {
            queue: Outlet(broker, Line(queue, client, last), charge.clusters.get(queue))
            for queue, (client, last) in charge.clients.items()
        }
        self._clusters = dict(charge.clusters)
        self._aside = Aside(vitals)
        self._look_at = 0.0
        self._renew_at = time.monotonic() + RENEW
        self._moved = time.monotonic()
        self._restore(charge.batches)

    def run(self, progress: Callable[[], None]) -> None:
        """Run until the loop is asked to stop; then finish what is numbered within the grace."""
        loop = self._broker.loop
        with self._signs_of_life():
            while not loop.asked or (any(self._working()) and not loop.stopping):
                self._turn(progress, look=not loop.asked)
            self._write([])

    def close(self) -> None:
        """Stop publishing."""
        for outlet in self._outlets.values():
            outlet.close()

    def _turn(self, progress: Callable[[], None], *, look: bool) -> None:
        self._keep_books(look=look)
        published = self._publish()
        self._broker.turn(0 if published else self._pause(look=look))
        settled = [outlet.settle() for outlet in self._outlets.values()]
        if any(settled):
            progress()
        self._check_confirms(moved=any(settled))

    def _publish(self) -> int:
        """Publish what there is room for; return the number of requests."""
        outlets = self._outlets.values()
        channels = sum(outlet.open for outlet in outlets)
        published = 0
        for outlet in outlets:
            if channels >= CHANNELS and outlet.open and not outlet.line:
                outlet.close()
                channels -= 1
            if outlet.open or channels < CHANNELS:
                channels -= outlet.open
                published += outlet.publish()
                channels += outlet.open
        return published

    @contextlib.contextmanager
    def _signs_of_life(self) -> Iterator[None]:
        """Keep renewing the lease, also while RabbitMQ is slow to answer."""
        loop = self._broker.loop

        def renew() -> None:
            try:
                if time.monotonic() >= self._renew_at:
                    self._ledger.renew(self._epoch)
                    self._renew_at = time.monotonic() + RENEW
            finally:
                timers[0] = loop.call_later(max(0.1, self._renew_at - time.monotonic()), renew)

        timers = [loop.call_later(RENEW, renew)]
        try:
            yield
        finally:
            timers[0].cancel()

    def _working(self) -> Iterator[Outlet]:
        """Yield the healthy outlets that have unconfirmed requests."""
        return (o for o in self._outlets.values() if o.line and not o.trouble)

    def _room(self) -> int:
        """Return how many more requests may be numbered; 0 if too few to be worth a commit."""
        room = MOST - sum(len(outlet.line) for outlet in self._working())
        return room if room >= BATCH // 2 else 0

    # -- the books

    def _keep_books(self, *, look: bool) -> None:
        now = time.monotonic()
        rows = []
        if look and now >= self._look_at and (room := self._room()):
            rows = self._look(min(room, BATCH))
        if rows or any(outlet.line.confirmed for outlet in self._outlets.values()):
            self._write(rows)
        self._aside.count()

    def _write(self, rows: list[Row]) -> None:
        """Number rows, and delete the confirmed ones."""
        numbered = list(self._number(rows))
        batches = [each.batch for each in numbered]
        self._highest = max([self._highest, *(batch.ranges[-1][1] for batch in batches)])
        confirmed = [b for outlet in self._outlets.values() for b in outlet.line.confirmed]
        clusters = {queue: o.cluster for queue, o in self._outlets.items() if o.cluster}
        met = dict(clusters.items() - self._clusters.items())
        self._ledger.write(self._epoch, batches, confirmed, self._highest, self._sight.after, met)
        self._clusters = clusters
        self._renew_at = time.monotonic() + RENEW
        for outlet in self._outlets.values():
            outlet.line.removed()
        self._vitals.confirmed += sum(batch.size for batch in confirmed)
        # Publish only now that the numbers are committed.
        for each in numbered:
            self._outlet(each.batch).line.add(each)

    def _number(self, rows: list[Row]) -> Iterator[Numbered]:
        by_queue: dict[str, list[Row]] = {}
        for row in rows:
            by_queue.setdefault(row.queue, []).append(row)
        for queue, of_queue in by_queue.items():
            if queue not in self._outlets:
                try:
                    check_queue(queue)
                except InvalidRequest as error:
                    self._aside.leave_out((row, error) for row in of_queue)
                    continue
                client = self._ledger.add_client(self._epoch, queue)
                self._outlets[queue] = Outlet(self._broker, Line(queue, client, 0))
            numbered, invalid = self._outlets[queue].line.number_rows(of_queue)
            self._aside.leave_out(invalid)
            if numbered.requests:
                yield numbered

    def _restore(self, batches: Sequence[Batch]) -> None:
        """Resume recorded batches. Rows that are no longer valid requests are set aside."""
        if not batches:
            return
        rows = self._ledger.rows(batches)
        restored = [(batch, *restore(batch, rows)) for batch in batches]
        invalid = [each for _, _, of_batch in restored for each in of_batch]
        odd = {row.id for row, _ in invalid}
        # In a batch by itself, an invalid row keeps its number and does not hold up the others.
        whole = [batch for batch, _, of_batch in restored if of_batch and batch.size > 1]
        if whole:
            parts = [part for batch in whole for part in batch.apart(odd)]
            self._ledger.part(self._epoch, whole, parts)
            self._restore([batch for batch in batches if batch not in whole] + parts)
            return
        for batch, numbered, of_batch in restored:
            if of_batch:
                self._aside.keep(batch, of_batch)
            else:
                outlet = self._outlet(batch)
                outlet.line.add(numbered)
                if numbered.requests:
                    outlet.begin_anew()

    def _outlet(self, batch: Batch) -> Outlet:
        return self._outlets[batch.queue]

    # -- looking

    def _look(self, limit: int) -> list[Row]:
        """Return rows that have no number yet, lowest ids first."""
        stuck = {queue: o.trouble for queue, o in self._outlets.items() if o.trouble is not None}
        if self._vitals.stuck.keys() - stuck.keys():
            self._sight.begin_anew()  # rows of a recovered queue may wait far below
        self._vitals.stuck = stuck
        if time.monotonic() >= self._aside.look_at:
            self._restore(self._aside.take())
        known = [*self._aside.ranges]
        for outlet in self._outlets.values():
            known.extend(outlet.line.ranges)

        def read(look: Look, limit: int) -> tuple[list[Row], float]:
            begun = time.monotonic()
            rows = self._ledger.read(look, limit, known, list(stuck))
            return rows, time.monotonic() - begun

        # New rows may arrive without end: reserve some room for those further down.
        share = limit if self._sight.covers_all else limit - limit // SWEEPS
        rows, seconds = read(self._sight.main(), share)
        self._sight.looked(seconds, len(rows), rows[-1].id if rows else None)
        whole = len(rows) < share
        room = limit - len(rows)
        if room and (below := self._sight.sweep()):
            # This range may overlap the one just read: no row may get two numbers.
            known.extend((row.id, row.id) for row in rows)
            found, more = read(below, room)
            self._sight.swept(more, len(found), all_of_it=len(found) < room)
            rows = sorted(found + rows, key=attrgetter("id"))  # some were committed in between
            seconds += more
            whole = whole and len(found) < room
        self._look_at = time.monotonic() + (max(POLL, SHARE * seconds) if whole else 0)
        return rows

    def _pause(self, *, look: bool) -> float:
        """Return how long to wait for RabbitMQ, in seconds, before there is other work."""
        if any(outlet.line.confirmed for outlet in self._outlets.values()):
            return 0
        if not (look and self._room()):
            return LONGEST_TURN
        return max(0.0, self._look_at - time.monotonic())

    def _check_confirms(self, *, moved: bool) -> None:
        now = time.monotonic()
        in_flight = any(outlet.in_flight for outlet in self._outlets.values())
        if moved or not in_flight or self._broker.blocked:
            self._moved = now
        elif now - self._moved > STALLED:
            raise Transient(f"{self._broker.node} has confirmed nothing for {STALLED:.0f} s")
