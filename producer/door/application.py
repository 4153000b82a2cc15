"""The door's ASGI application: the response to each condition (see the table in docs/http.md)."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from producer.door.answers import Answer, Problem, confirmed, page
from producer.door.figures import Figures
from producer.door.pending import Pending
from turnwise.errors import InvalidRequest
from turnwise.limits import MAX_MESSAGE_BYTES
from turnwise.loop import ALIVE_WITHIN, Loop
from turnwise.message import Request

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_COUNTER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)

_ONCE = {
    b"host", b"authorization", b"transfer-encoding", b"content-encoding", b"content-range",
}  # fmt: skip
"""Headers that must not be repeated: a proxy might read the last one, and the door the first."""

MAX_HEAD = 16 * 1024
"""Bytes of the target and the headers of a request."""

log = logging.getLogger(__name__)


class Application:
    """Accepts PUT /requests/CLIENT/COUNTER, and answers probes.

    A PUT takes at most ``timeout`` seconds from its head to its response. Without a ``token``, the
    Host header must name one of ``hosts``. Otherwise another site's script could reach a door on
    loopback through a name that resolves to it (DNS rebinding).
    """

    def __init__(
        self,
        loop: Loop,
        pending: Pending,
        figures: Figures,
        *,
        token: str | None,
        hosts: Collection[str],
        timeout: float,
    ) -> None:
        self._loop = loop
        self._pending = pending
        self._figures = figures
        self._credentials = None if token is None else token.encode()
        self._hosts = hosts
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = time.monotonic()
        # Split before decoding: an encoded slash separates nothing.
        path = [unquote(part) for part in scope["raw_path"].decode("ascii").split("/")]
        door = path[1:2] == ["requests"]
        try:
            answer = await self._take(scope, path, receive) if door else self._look(scope)
        except Problem as problem:
            answer = problem.answer()
        except _Gone:
            return
        except Exception:
            log.exception("door.failed")
            answer = Problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the log of the door has it"
            ).answer()
        if door:
            self._figures.answered(answer.status, time.monotonic() - begun)
        await send(
            {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        )
        await send({"type": "http.response.body", "body": answer.body})

    # -- requests

    async def _take(self, scope: Scope, path: list[str], receive: Receive) -> Answer:
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        try:
            _check_head(scope)
            client, counter = self._check(scope["method"], headers, path)
            self._pending.check()
        except Problem as problem:
            # A client that sent "Expect: 100-continue" may now send the body or another request,
            # and the two cannot be distinguished.
            problem.close = problem.close or b"expect" in headers
            raise
        request: Request | None = None
        try:
            async with asyncio.timeout(self._timeout):
                message = await _read(receive)
                request = _request(client, counter, message)
                reason = await asyncio.shield(self._pending.submit(request))
        except TimeoutError:
            if request is None:
                raise Problem(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the message did not come within {self._timeout:g} s",
                    close=True,
                ) from None
            reason = f"RabbitMQ has not confirmed it within {self._timeout:g} s"
        if reason is not None:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{reason}; it may or may not be recorded: send the same request again",
            )
        return confirmed(request)

    def _check(self, method: str, headers: dict[bytes, bytes], path: list[str]) -> tuple[str, int]:
        """Return client and counter. Raises Problem if the head of the request is invalid."""
        if self._credentials is not None:
            self._authorize(headers.get(b"authorization", b""))
        else:
            self._check_host(headers.get(b"host", b""))
        if len(path) != 4:  # noqa: PLR2004 - "", requests, CLIENT, COUNTER
            raise Problem(HTTPStatus.NOT_FOUND, "requests are PUT to /requests/CLIENT/COUNTER")
        if method != "PUT":
            raise Problem(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "the door accepts PUT only, and stores nothing that could be read. The dashboard "
                "knows whether a request was served: GET /api/requests/CLIENT/COUNTER",
                allow="PUT",
            )
        _, _, client, counter = path
        if not _COUNTER.fullmatch(counter):
            raise Problem(
                HTTPStatus.BAD_REQUEST,
                "counter: must be a number from 1 to 2^63 - 1, without leading zeros",
            )
        try:
            Request(client, int(counter), "", _LONG_AGO)
        except InvalidRequest as error:
            raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None
        if client in {".", ".."}:
            raise Problem(
                HTTPStatus.BAD_REQUEST,
                "client: must not be '.' or '..': HTTP clients rewrite such a path",
            )
        _check_body(headers)
        return client, int(counter)

    def _authorize(self, credentials: bytes) -> None:
        kind, _, given = credentials.partition(b" ")
        if kind.lower() != b"bearer":
            raise Problem(HTTPStatus.UNAUTHORIZED, "send the token: 'Authorization: Bearer TOKEN'")
        # In constant time, which reveals nothing about how much of it matches.
        if not hmac.compare_digest(given.strip(), self._credentials or b""):
            raise Problem(HTTPStatus.UNAUTHORIZED, "the token is wrong")

    def _check_host(self, host: bytes) -> None:
        try:
            name = urlsplit(f"//{host.decode('latin-1')}").hostname
        except ValueError:
            name = None
        if name not in self._hosts:
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"without a --token this door answers to {', '.join(sorted(self._hosts))} only",
            )

    # -- probes

    def _look(self, scope: Scope) -> Answer:
        look = {
            "/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics,
        }.get(scope["path"])  # fmt: skip
        if look is None:
            raise Problem(HTTPStatus.NOT_FOUND, "requests are PUT to /requests/CLIENT/COUNTER")
        if scope["method"] not in {"GET", "HEAD"}:
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "this can only be read", allow="GET, HEAD")
        return look()

    def _healthz(self) -> Answer:
        # This thread is alive, since it answers. The AMQP thread is alive if its loop turns; that
        # RabbitMQ is away does not make the door unhealthy.
        silence = self._loop.silence
        alive = silence < ALIVE_WITHIN
        return _state({"alive": alive, "seconds_since_turn": round(silence, 3)}, good=alive)

    def _readyz(self) -> Answer:
        reason = self._pending.refusal
        fields: dict[str, object] = {"ready": reason is None}
        if reason is not None:
            fields["reason"] = reason
        return _state(fields, good=reason is None)

    def _metrics(self) -> Answer:
        return page(HTTPStatus.OK, CONTENT_TYPE_LATEST, self._figures.exposition())


class _Gone(Exception):
    """The client disconnected before it had sent the whole request."""


_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def _check_head(scope: Scope) -> None:
    size = len(scope["raw_path"])
    seen = set()
    for name, value in scope["headers"]:
        size += len(name) + len(value) + 4
        if name in seen:
            raise Problem(
                HTTPStatus.BAD_REQUEST, f"{name.decode().title()}: is given twice", close=True
            )
        if name in _ONCE:
            seen.add(name)
    if size > MAX_HEAD:
        raise head_too_large()


def head_too_large() -> Problem:
    """Return the problem of a head above MAX_HEAD."""
    return Problem(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"the head of the request has more than {MAX_HEAD} bytes",
        close=True,
    )


def _check_body(headers: dict[bytes, bytes]) -> None:
    """Raise Problem if the body cannot be the message as it is."""
    length = int(headers.get(b"content-length", 0))
    if length > MAX_MESSAGE_BYTES:
        raise _too_large()
    transfer = headers.get(b"transfer-encoding")
    if transfer is not None and transfer.strip().lower() != b"chunked":
        raise Problem(
            HTTPStatus.NOT_IMPLEMENTED, "of transfer codings the door knows 'chunked' only"
        )
    if (length or transfer) and b"upgrade" in headers:
        # The parser takes what follows such a head for another protocol, and would hand over an
        # empty message.
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "the door speaks HTTP/1.1 only: send no Upgrade header with a message",
            close=True,
        )
    if headers.get(b"content-encoding", b"identity").lower() not in {b"", b"identity"}:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the message must be sent without a content coding"
        )
    if b"content-range" in headers:
        raise Problem(HTTPStatus.BAD_REQUEST, "the message must be sent as a whole, not as a range")


async def _read(receive: Receive) -> bytes:
    """Return the body. A chunked body does not announce its size, so count it as it arrives."""
    body = b""
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Gone
        body += event["body"]
        more = event["more_body"]
        if len(body) > MAX_MESSAGE_BYTES:
            raise _too_large()
    return body


def _request(client: str, counter: int, message: bytes) -> Request:
    try:
        text = message.decode()
    except UnicodeDecodeError as error:
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"message: is not UTF-8 at byte {error.start}"
        ) from None
    return Request(client, counter, text, datetime.now(UTC))


def _too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"message: has more than the {MAX_MESSAGE_BYTES} bytes allowed",
    )


def _state(fields: dict[str, object], *, good: bool) -> Answer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return page(status, "application/json", json.dumps(fields).encode())
