"""The login before the page: a token, sent as a header by a program, as a cookie by a browser."""

from __future__ import annotations

import hmac
import logging
from http import HTTPStatus

from flask import Flask, redirect, render_template, request, url_for
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response

from turnwise.log import event

log = logging.getLogger(__name__)

COOKIE = "turnwise"

_OPEN = {"healthz", "readyz", "login", "enter", "static"}
"""What needs no token: nothing of it is anybody's data."""


class Login:
    """Lets in who has the token."""

    def __init__(self, app: Flask, token: str) -> None:
        self._token = token
        # What the cookie holds: proof of the token, which it does not give away.
        self._proof = hmac.digest(token.encode(), b"turnwise dashboard", "sha256").hex()
        app.before_request(self.let_in)
        app.add_url_rule("/login", "login", self.show)
        app.add_url_rule("/login", "enter", self.enter, methods=["POST"])
        app.add_url_rule("/logout", "logout", self.leave, methods=["POST"])

    def let_in(self) -> Response | None:
        """Return None for whoever may go on."""
        if request.endpoint in _OPEN or self._has_token():
            return None
        if request.path.startswith("/api/"):
            raise Unauthorized("send the token: Authorization: Bearer TOKEN")
        return redirect(url_for("login"), HTTPStatus.SEE_OTHER)

    def show(self) -> str:
        """Ask for the token."""
        return render_template("login.html", wrong=False)

    def enter(self) -> Response | tuple[str, HTTPStatus]:
        """Take the token."""
        if not _same(request.form.get("token", "").strip(), self._token):
            event(log, logging.WARNING, "login.refused", address=request.remote_addr)
            return render_template("login.html", wrong=True), HTTPStatus.FORBIDDEN
        response = redirect(url_for("page"), HTTPStatus.SEE_OTHER)
        # The browser says itself whether it came by TLS, whatever stands in between.
        secure = request.headers.get("Origin", "").startswith("https:")
        response.set_cookie(COOKIE, self._proof, secure=secure, httponly=True, samesite="Strict")
        return response

    def leave(self) -> Response:
        """Forget it."""
        response = redirect(url_for("login"), HTTPStatus.SEE_OTHER)
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
        return response

    def _has_token(self) -> bool:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return _same(given.strip(), self._token)
        return _same(request.cookies.get(COOKIE, ""), self._proof)


def _same(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing of how much is right."""
    return hmac.compare_digest(given.encode(), expected.encode())
