"""The door's backlog: requests between their PUT and RabbitMQ's confirm, in memory only.

Two threads meet here and nowhere else: the HTTP thread and the AMQP thread. Each hands over in
batches: everything that one turn of its loop has gathered.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from producer.door.answers import Problem
from turnwise.loop import Loop
from turnwise.message import Request


@dataclass(slots=True, eq=False)
class _Entry:
    request: Request
    answered: asyncio.Future[str | None]
    """Resolves to None when the request is confirmed, otherwise to the reason why it is not."""


class Pending:
    """Requests to be published or confirmed, at most ``limit``. They are stored nowhere else.

    Each ends with a confirm, or with the reason why its outcome is unknown. In that case its
    client, which still has it, retries. No request is published on a second connection.
    """

    def __init__(self, loop: Loop, limit: int) -> None:
        """``loop`` is the loop of the AMQP thread."""
        self.refusal: str | None = "the door has not reached RabbitMQ yet"
        """Why nothing can be published now; None if it can. Written by the AMQP thread."""
        self.accepted = 0
        self._loop = loop
        self._limit = limit
        # Owned by the HTTP thread
        self._under_way: dict[str, _Entry] = {}
        self._handing_over: list[_Entry] = []
        # Owned by the AMQP thread
        self._http: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[int, Request]] = deque()
        self._entries: dict[int, _Entry] = {}
        self._numbers: dict[str, int] = {}
        self.progress_at = time.monotonic()
        """When a request was last confirmed, or the first one began to wait."""

    # -- called by the HTTP thread

    @property
    def under_way(self) -> int:
        """The number of requests that wait for their confirm."""
        return len(self._under_way)

    def check(self) -> None:
        """Raise Problem if a request could not be published now."""
        if self.refusal is not None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{self.refusal}; try again")
        if len(self._under_way) >= self._limit:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._limit} requests wait for RabbitMQ's confirm already; try again",
            )

    def submit(self, request: Request) -> asyncio.Future[str | None]:
        """Queue a request; return a future of None, or of the reason why it is not confirmed.

        The future may be shared: shield it. Raises Problem if it cannot be published now.
        """
        entry = self._under_way.get(request.message_id)
        if entry is not None:
            # The client retries while its first try is pending: one confirm answers both.
            if entry.request.message == request.message:
                return entry.answered
            raise Problem(
                HTTPStatus.CONFLICT, "another message is under way under this client and counter"
            )
        self.check()
        http = asyncio.get_running_loop()
        entry = _Entry(request, http.create_future())
        self._under_way[request.message_id] = entry
        if not self._handing_over:
            http.call_soon(self._hand_over, http)
        self._handing_over.append(entry)
        return entry.answered

    def _hand_over(self, http: asyncio.AbstractEventLoop) -> None:
        entries, self._handing_over = self._handing_over, []
        self._loop.add_callback(functools.partial(self._take, entries, http))

    def _answer(self, entries: list[_Entry], reason: str | None) -> None:
        for entry in entries:
            del self._under_way[entry.request.message_id]
            entry.answered.set_result(reason)

    # -- called by the AMQP thread

    def _take(self, entries: list[_Entry], http: asyncio.AbstractEventLoop) -> None:
        self._http = http
        if self.refusal is not None:
            self._tell(entries, self.refusal)
            return
        if not self._entries:
            self.progress_at = time.monotonic()
        for entry in entries:
            self.accepted += 1
            self._entries[self.accepted] = entry
            self._numbers[entry.request.message_id] = self.accepted
            self._waiting.append((self.accepted, entry.request))

    def after(self, _number: int, limit: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield at most ``limit`` requests that are not published yet, in order."""
        for _ in range(min(limit, len(self._waiting))):
            number, request = self._waiting.popleft()
            yield number, request.encode(), request.encode_properties()

    def number(self, message_id: str) -> int:
        """Return the number of a published request; 0 if no client is waiting for it any more."""
        return self._numbers.get(message_id, 0)

    def forget(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Answer the clients of confirmed requests."""
        self.progress_at = time.monotonic()
        numbers = (number for first, last in ranges for number in range(first, last + 1))
        self._tell([entry for number in numbers if (entry := self._pop(number))], None)

    def stalled(self, timeout: float) -> bool:
        """Whether requests wait but none was confirmed for ``timeout`` seconds."""
        return bool(self._entries) and time.monotonic() - self.progress_at > timeout

    def refuse(self, reason: str) -> None:
        """Answer all waiting requests, and all later ones, with the reason.

        If a confirm of one of them still arrives, it is not reported to the client.
        """
        self.refusal = reason
        self._waiting.clear()
        self._numbers.clear()
        entries, self._entries = list(self._entries.values()), {}
        self._tell(entries, reason)

    def resume(self) -> None:
        """Accept requests again."""
        self.refusal = None

    def _pop(self, number: int) -> _Entry | None:
        entry = self._entries.pop(number, None)
        if entry is not None:
            del self._numbers[entry.request.message_id]
        return entry

    def _tell(self, entries: list[_Entry], reason: str | None) -> None:
        if not entries or self._http is None:
            return
        # Once the HTTP thread has ended, no client is waiting.
        with contextlib.suppress(RuntimeError):
            self._http.call_soon_threadsafe(self._answer, entries, reason)
