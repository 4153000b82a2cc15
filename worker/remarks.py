"""Logs the requests that a worker settles without simply serving them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest
from turnwise.log import event
from turnwise.loop import Loop
from turnwise.message import Request, decode_properties
from worker.settle import Reject, decide
from worker.store import Outcome

log = logging.getLogger(__name__)

LINES = 100
"""The most lines in a second. One further line counts the rest: a flood of bad messages neither
fills the disk nor delays the good ones, and 'worker dead list' shows each of them."""

_INTERVAL = 1.0


class Remarks:
    """Logs dead-lettered and repeated requests as ``name``, and served ones at level debug."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._since = 0.0
        self._lines = 0
        self._more: Counter[str] = Counter()

    def settled(
        self,
        batch: Sequence[Delivery],
        decoded: Sequence[Request | InvalidRequest],
        results: Sequence[Outcome | InvalidRequest],
    ) -> None:
        """Log the requests of a batch that are worth a line."""
        all_of_them = log.isEnabledFor(logging.DEBUG)
        if not all_of_them and results.count(Outcome.SERVED) == len(results):
            return
        now = time.monotonic()
        if now - self._since >= _INTERVAL:
            self._since, self._lines = now, 0
        for delivery, what, result in zip(batch, decoded, results, strict=True):
            if result is Outcome.SERVED or result is Outcome.FAILED:
                # The handler's failures are logged elsewhere.
                if all_of_them and result is Outcome.SERVED:
                    event(log, logging.DEBUG, "request.served", **self._about(delivery, what))
            elif all_of_them or self._lines < LINES:
                self._lines += 1
                self._log(delivery, what, result)
            else:
                self._count("repeated" if result is Outcome.REPEATED else "dead_lettered")

    def close(self) -> None:
        """Log the number of requests that were counted instead of logged."""
        if self._more:
            event(log, logging.WARNING, "requests.not_logged", **self._more, worker=self._name)
            self._more.clear()

    def _count(self, what: str) -> None:
        if not self._more:
            self._loop.call_later(_INTERVAL, self.close)
        self._more[what] += 1

    def _log(
        self,
        delivery: Delivery,
        what: Request | InvalidRequest,
        result: Outcome | InvalidRequest,
    ) -> None:
        about = self._about(delivery, what)
        verdict = decide(result)
        if isinstance(verdict, Reject):
            about |= {"reason": verdict.reason, "detail": verdict.detail}
            event(log, logging.WARNING, "request.dead_lettered", **about)
        else:
            event(log, logging.INFO, "request.repeated", **about)

    def _about(self, delivery: Delivery, what: Request | InvalidRequest) -> dict[str, object]:
        return {"message_id": _message_id(delivery, what), "worker": self._name}


def _message_id(delivery: Delivery, decoded: Request | InvalidRequest) -> str | None:
    if isinstance(decoded, Request):
        return decoded.message_id
    try:
        message_id: str | None = decode_properties(delivery.properties).message_id
    except InvalidRequest:
        return None
    return message_id
