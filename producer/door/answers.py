"""The door's responses: status, headers and body. Errors are problem details (RFC 9457). Pure."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple

from turnwise.message import Request

Headers = list[tuple[bytes, bytes]]

RETRY_AFTER = 1
"""Seconds. A door that lost RabbitMQ retries within two."""

_RETRY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_PROBLEM_TYPE = (b"content-type", b"application/problem+json")


class Answer(NamedTuple):
    """One response. ``headers`` are complete: uvicorn only adds the date."""

    status: HTTPStatus
    headers: Headers
    body: bytes


def confirmed(request: Request) -> Answer:
    """Return the response to a request that RabbitMQ has confirmed."""
    location = f"/requests/{request.message_id}".encode()
    return Answer(HTTPStatus.CREATED, [(b"location", location), (b"content-length", b"0")], b"")


def page(status: HTTPStatus, content_type: str, body: bytes) -> Answer:
    """Return the response of a probe or of the metrics page."""
    return Answer(
        status,
        [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ],
        body,
    )


class Problem(Exception):
    """The reason why a request is not accepted, as reported to the client."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        allow: str | None = None,
        close: bool = False,
    ) -> None:
        """``allow``: the allowed methods (for a 405); ``close``: close the connection after it."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self._allow = allow
        self.close = close

    def answer(self) -> Answer:
        """Return the problem as a response."""
        body = json.dumps(
            {
                "type": "about:blank",
                "title": self.status.phrase,
                "status": self.status.value,
                "detail": self.detail,
            }
        ).encode()
        headers = [_PROBLEM_TYPE, (b"content-length", str(len(body)).encode())]
        if self._allow is not None:
            headers.append((b"allow", self._allow.encode()))
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b'Bearer realm="turnwise"'))
        if self.status in _RETRY:
            headers.append((b"retry-after", str(RETRY_AFTER).encode()))
        if self.close:
            headers.append((b"connection", b"close"))
        return Answer(self.status, headers, body)
