"""The routes: the page, its JSON, the probes."""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException, NotFound, ServiceUnavailable

from dashboard import answers
from dashboard.board import Board
from dashboard.login import Login
from dashboard.watch import Pace
from turnwise import __version__

FOLLOW_TIMEOUT = 1.0
"""Seconds to wait for the next look at the database."""

FOLLOWERS = 4
"""Threads that may wait for it at the same time: the others go on whatever hangs."""

SAME_FOR = 0.1
"""Seconds for which the same answer is given to all who ask the same."""

_MAX_COUNTER = 2**63 - 1

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(
    board: Board,
    *,
    token: str | None,
    hosts: list[str],
    management_link: str | None,
    pace: Pace,
    alive: Callable[[], bool],
) -> Flask:
    """Make the WSGI application.

    ``pace`` is told when somebody looks; ``alive()`` tells whether the watchers run. Without a
    token only ``hosts`` are answered to: another site's script could otherwise reach a server on
    loopback by a name that it makes resolve to it (DNS rebinding).
    """
    app = Flask(__name__)
    routes = _Routes(board, pace)

    def page() -> str:
        return render_template(
            "page.html", link=management_link, version=__version__, login=bool(token)
        )

    app.add_url_rule("/", "page", page)
    app.add_url_rule("/api/state", "state", routes.state)
    app.add_url_rule("/api/requests/<client>/<int:counter>", "one", routes.one)
    app.add_url_rule("/healthz", "healthz", lambda: _probe("alive", alive()))
    app.add_url_rule("/readyz", "readyz", lambda: _probe("ready", board.complete()))
    app.after_request(_protect)
    app.register_error_handler(HTTPException, _tell)
    if token:
        Login(app, token)
    else:
        app.config["TRUSTED_HOSTS"] = hosts
    return app


class _Routes:
    """What is told of the board."""

    def __init__(self, board: Board, pace: Pace) -> None:
        self._board = board
        self._pace = pace
        self._following = threading.BoundedSemaphore(FOLLOWERS)
        self._state_at = functools.lru_cache(maxsize=256)(self._encode)

    def state(self) -> Response:
        """All that is on the board, or what changed since."""
        self._pace.looked()
        after = request.args.get("after", 0, type=int)
        return _json(self._state_at(after, int(time.monotonic() / SAME_FOR)))

    def one(self, client: str, counter: int) -> Response:
        """Whether a request is served; if so, it with all of its message."""
        self._pace.looked()
        if counter > _MAX_COUNTER or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", client, re.ASCII):
            raise NotFound("no request can have this client and counter")
        if not self._following.acquire(blocking=False):
            raise ServiceUnavailable("too many ask at once; try again")
        try:
            found = self._board.follow((client, counter), FOLLOW_TIMEOUT, self._pace.hurry)
        except TimeoutError:
            raise ServiceUnavailable("the database does not tell now; try again") from None
        finally:
            self._following.release()
        return _json(answers.one((client, counter), found))

    def _encode(self, after: int, _moment: int) -> bytes:
        return answers.state(self._board.view(), after)


def _protect(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _tell(error: HTTPException) -> Response:
    told = {"problem": error.description or error.name}
    return _json(answers.encode(told), HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR))


def _probe(name: str, good: bool) -> Response:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return _json(answers.encode({name: good}), status)


def _json(body: bytes, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(body, status, mimetype="application/json")
