"""The application: the live view, its JSON, the probes, and what all views share."""

from __future__ import annotations

import functools
import gzip
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from flask import Flask, Response, render_template, request
from markupsafe import Markup, escape
from werkzeug.exceptions import HTTPException, NotFound, ServiceUnavailable

from dashboard import answers, text
from dashboard.actions import Actions
from dashboard.asking import within
from dashboard.board import Board
from dashboard.finding import Finding
from dashboard.letters import Letters
from dashboard.login import Login
from dashboard.logouts import Logouts
from dashboard.lookup import Lookups
from dashboard.operating import Operating
from dashboard.sessions import Role, Sessions
from dashboard.watch import Pace
from turnwise import __version__
from turnwise.errors import ServerError
from turnwise.node import Node

FOLLOW_TIMEOUT = 1.0
"""Seconds to wait for the next poll of the database."""

FOLLOWERS = 4
"""Threads that may wait for it at the same time. The others keep answering, whatever hangs."""

SAME_FOR = 0.1
"""Seconds for which an answer is reused for the same question."""

WORTH_PACKING = 8 * 1024
"""Answers larger than this, in bytes, are compressed."""

VIEWS = (
    ("Live", "page"),
    ("Search", "search"),
    ("Failures", "failures"),
    ("Dead letters", "dead"),
    ("Actions", "actions"),
)

_MAX_COUNTER = 2**63 - 1

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not 'no-referrer', with which a browser hides a form's origin even from its own site.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Links:
    """Links to other tools; None where there is no such tool."""

    management: str | None = None
    grafana: str | None = None


def create_app(
    board: Board,
    *,
    tokens: dict[Role, str],
    session_key: str,
    hosts: set[str],
    links: Links,
    lookups: Lookups,
    logouts: Logouts,
    acting: Actions | None,
    nodes: Sequence[Node] | None,
    queue: str,
    pace: Pace,
    alive: Callable[[], bool],
) -> Flask:
    """Create the WSGI application.

    ``tokens`` maps each role that can log in to its token. ``hosts`` are the host names that the
    page answers to if viewing needs no token. ``pace`` is notified of each view. ``alive()``
    returns whether the watchers run. Without ``acting``, nobody can act. ``nodes`` use an account
    that may read the dead letters of ``queue``.
    """
    app = Flask(__name__)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters |= {
        "shown": text.shown,
        "lines": functools.partial(text.shown, lines=True),
        "number": text.number,
        "moment": _moment,
    }
    live = _Live(board, pace)
    app.add_url_rule("/", "page", lambda: render_template("page.html", view="page"))
    app.add_url_rule("/api/state", "state", live.state)
    app.add_url_rule("/api/requests/<client>/<int:counter>", "one", live.one)
    app.add_url_rule("/healthz", "healthz", lambda: _probe("alive", alive()))
    app.add_url_rule("/readyz", "readyz", lambda: _probe("ready", board.complete()))
    app.after_request(_protect)
    app.register_error_handler(HTTPException, _show_problem)
    app.register_error_handler(ServerError, _show_server_error)
    app.context_processor(
        lambda: {
            "version": __version__,
            "management_link": links.management,
            "grafana_link": links.grafana,
            "views": VIEWS,
        }
    )
    Login(app, tokens, Sessions(session_key), logouts, hosts)
    Finding(app, lookups)
    Operating(app, lookups, acting)
    Letters(app, nodes, queue, acting)
    return app


class _Live:
    """Answers from the board."""

    def __init__(self, board: Board, pace: Pace) -> None:
        self._board = board
        self._pace = pace
        self._following = threading.BoundedSemaphore(FOLLOWERS)
        self._state_at = functools.lru_cache(maxsize=256)(self._encode)

    def state(self) -> Response:
        """Return all that is on the board, or what changed since a cursor."""
        self._pace.looked()
        plain, packed = self._state_at(
            request.args.get("after", "")[:100], int(time.monotonic() / SAME_FOR)
        )
        if not packed or "gzip" not in request.headers.get("Accept-Encoding", ""):
            return _json(plain)
        response = _json(packed)
        response.headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return response

    def one(self, client: str, counter: int) -> Response:
        """Return whether a request is served; if so, with its whole message."""
        self._pace.looked()
        if counter > _MAX_COUNTER or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", client, re.ASCII):
            raise NotFound("no request can have this client and counter")
        if not self._following.acquire(blocking=False):
            raise ServiceUnavailable("too many requests at once; try again")
        try:
            found = self._board.follow((client, counter), FOLLOW_TIMEOUT, self._pace.hurry)
        except TimeoutError:
            raise ServiceUnavailable("the database does not answer now; try again") from None
        finally:
            self._following.release()
        return _json(answers.one((client, counter), found))

    def _encode(self, after: str, _moment: int) -> tuple[bytes, bytes]:
        plain = answers.state(self._board.view(), after)
        return plain, gzip.compress(plain, 1) if len(plain) > WORTH_PACKING else b""


def _protect(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _show_problem(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    problem = error.description or error.name
    if _asks_for_json():
        response = _json(answers.encode({"problem": problem}), status)
    else:
        again = None if status is HTTPStatus.NOT_FOUND else within(request.full_path.rstrip("?"))
        html = render_template(
            "problem.html",
            view=request.endpoint,
            name=status.phrase,
            problem=problem,
            again=again,
        )
        response = Response(html, status)
    if retry_after := getattr(error, "retry_after", None):
        response.headers["Retry-After"] = str(retry_after)
    return response


def _show_server_error(error: ServerError) -> Response:
    return _show_problem(ServiceUnavailable(str(error)))


def _asks_for_json() -> bool:
    return request.path.startswith("/api/") or not request.accept_mimetypes.accept_html


def _moment(time: object) -> Markup:
    shown = text.moment(time)  # type: ignore[arg-type]
    iso = shown.replace(" ", "T") + "Z"
    return Markup('<time datetime="{}">{}</time>').format(escape(iso), escape(shown))


def _probe(name: str, good: bool) -> Response:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return _json(answers.encode({name: good}), status)


def _json(body: bytes, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(body, status, mimetype="application/json")
