"""The login by a token. A program sends it as a header; a browser gets a cookie in return.

Each of the two tokens stands for a role: viewers may only look, operators may also act.
"""

from __future__ import annotations

import logging
import math
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Flask, g, redirect, render_template, request, url_for
from werkzeug.exceptions import BadRequest, Forbidden, TooManyRequests, Unauthorized
from werkzeug.wrappers import Response

from dashboard.asking import within
from dashboard.logouts import Logouts
from dashboard.sessions import LASTS, Role, Session, Sessions, same
from dashboard.throttle import Throttle
from turnwise.log import event

log = logging.getLogger(__name__)

COOKIE = "turnwise"

LONGEST_NAME = 60
"""The most characters of an operator's name in the log of actions."""

_OPEN = {"healthz", "readyz", "login", "enter", "static"}
"""Endpoints that need no token, since they show no data."""


class Login:
    """Admits requests with a token or a session. Without a viewers' token, everyone may look.

    ``tokens`` maps each role to its token. ``hosts`` are the host names that the page answers to
    when viewing needs no token: otherwise another site's script could reach a server on loopback
    through a name that resolves to it (DNS rebinding).
    """

    def __init__(
        self,
        app: Flask,
        tokens: dict[Role, str],
        sessions: Sessions,
        logouts: Logouts,
        hosts: set[str],
    ) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._logouts = logouts
        self._hosts = hosts
        self._throttle = Throttle(time.monotonic)
        app.before_request(self.let_in)
        app.context_processor(self._context)
        if tokens:
            app.add_url_rule("/login", "login", self.show)
            app.add_url_rule("/login", "enter", self.enter, methods=["POST"])
            app.add_url_rule("/logout", "logout", self.leave, methods=["POST"])

    def let_in(self) -> Response | None:
        """Return None if the request may proceed, or a redirect to the login."""
        open_to_all = Role.VIEWER not in self._tokens
        if open_to_all and urlsplit(f"//{request.host}").hostname not in self._hosts:
            raise BadRequest("this page answers only under the host names of loopback")
        g.session = None
        if request.endpoint in {"healthz", "readyz", "static"}:
            return None
        g.session = self._bearer() or self._cookie()
        if request.method == "POST" and request.endpoint != "enter":
            self._check_form()
        if open_to_all or request.endpoint in _OPEN or g.session:
            return None
        if request.path.startswith("/api/"):
            raise Unauthorized("send the token: Authorization: Bearer TOKEN")
        wanted = request.full_path.rstrip("?") if request.method == "GET" else "/"
        return redirect(url_for("login", then=wanted), HTTPStatus.SEE_OTHER)

    def show(self) -> str:
        """Show the login form."""
        return render_template("login.html", acts=Role.OPERATOR in self._tokens)

    def enter(self) -> Response | tuple[str, HTTPStatus] | tuple[str, HTTPStatus, dict[str, str]]:
        """Check the token, and begin a session."""
        if _foreign():
            raise Forbidden("this request came from another site's page")
        wait = self._throttle.attempt(request.remote_addr)
        acts = Role.OPERATOR in self._tokens
        if wait:
            seconds = math.ceil(wait)
            page = render_template("login.html", wait=seconds, acts=acts)
            return page, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": str(seconds)}
        role = self._role(request.form.get("token", ""))
        if role is None:
            event(log, logging.WARNING, "login.refused", address=request.remote_addr, by="form")
            return render_template("login.html", wrong=True, acts=acts), HTTPStatus.FORBIDDEN
        self._throttle.forgive(request.remote_addr)
        name = " ".join(request.form.get("name", "").split())[:LONGEST_NAME]
        session = self._sessions.begin(role, name, time.time())
        response = redirect(within(request.form.get("then", "")), HTTPStatus.SEE_OTHER)
        # The browser itself reports whether it used TLS, whatever proxies are in between.
        secure = request.is_secure or request.headers.get("Origin", "").startswith("https:")
        response.set_cookie(
            COOKIE,
            self._sessions.seal(session),
            max_age=int(LASTS),
            secure=secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    def leave(self) -> Response:
        """End the session, for all pages and in the browser."""
        session: Session | None = g.session
        if session and session.id:
            self._logouts.end(session, time.time())
        response = redirect(url_for("login"), HTTPStatus.SEE_OTHER)
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
        return response

    def _cookie(self) -> Session | None:
        session = self._sessions.open(request.cookies.get(COOKIE, ""), time.time())
        if session is None or session.role not in self._tokens or self._logouts.has(session):
            return None
        return session

    def _bearer(self) -> Session | None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        wait = self._throttle.attempt(request.remote_addr)
        if wait:
            raise TooManyRequests(
                f"too many wrong tokens from your address; wait {math.ceil(wait)} s",
                retry_after=math.ceil(wait),
            )
        role = self._role(given)
        if role is None:
            event(log, logging.WARNING, "login.refused", address=request.remote_addr, by="header")
            raise Unauthorized("the token is wrong")
        self._throttle.forgive(request.remote_addr)
        return Session("", role, "", math.inf)

    def _role(self, given: str) -> Role | None:
        # Every token is compared, so that the time does not reveal which one is closer.
        right = [role for role, token in self._tokens.items() if same(given.strip(), token)]
        return right[0] if right else None

    def _check_form(self) -> None:
        """Refuse a form that another site's page could have sent with this browser's cookie."""
        session: Session | None = g.session
        if session is None or not session.id:
            return  # no session, so no rights; or a program, which another site cannot drive
        if _foreign() or not same(request.form.get("csrf", ""), self._sessions.csrf(session)):
            raise Forbidden("this form does not belong to your session; reload the page")
        # After a logout, another page may show data for a moment longer, but never acts.
        acts = session.role is Role.OPERATOR and request.endpoint != "logout"
        if acts and self._logouts.has_now(session):
            raise Forbidden("this session was logged out")

    def _context(self) -> dict[str, object]:
        session: Session | None = g.get("session")
        return {
            "session": session,
            "csrf": self._sessions.csrf(session) if session else "",
            "can_log_in": bool(self._tokens),
            "acts": session is not None and session.role is Role.OPERATOR,
        }


def _foreign() -> bool:
    """Return whether the browser reports that the form is on another site's page."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}
