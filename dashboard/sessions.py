"""Sessions, in signed cookies that any page with the same key can read. Pure.

No page keeps a list of sessions. So pages behind one load balancer need not know of each other, and
a token can be changed without ending any session.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass

LASTS = 12 * 3600.0
"""Seconds after which a session ends."""

SHORTEST_TOKEN = 16
"""The fewest characters of a token or a key."""


class Role(enum.StrEnum):
    """The rights of a session."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Session:
    """A login. ``name`` is the one given at the login; ``ends`` is Unix time."""

    id: str
    role: Role
    name: str
    ends: float


class Sessions:
    """Signs sessions with ``key`` and reads them again."""

    def __init__(self, key: str) -> None:
        # Slow to derive, so that a cookie is no fast way to guess the token behind the key.
        self._key = hashlib.scrypt(key.encode(), salt=b"turnwise page", n=2**14, r=8, p=1)

    def begin(self, role: Role, name: str, now: float) -> Session:
        """Return a new session; ``now`` is Unix time."""
        return Session(secrets.token_urlsafe(16), role, name, now + LASTS)

    def seal(self, session: Session) -> str:
        """Return the cookie's value."""
        fields = [session.id, session.role, session.name, int(session.ends)]
        body = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")
        return f"{body}.{self._sign('session', body)}"

    def open(self, cookie: str, now: float) -> Session | None:
        """Return the session of a cookie; None if it is not ours, or has expired."""
        body, _, signature = cookie.partition(".")
        if not same(signature, self._sign("session", body)):
            return None
        try:
            text = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            id_, role, name, ends = json.loads(text)
            session = Session(id_, Role(role), name, float(ends))
        except (binascii.Error, ValueError, TypeError):
            return None  # from an earlier release
        return session if now < session.ends else None

    def csrf(self, session: Session) -> str:
        """Return the CSRF token that forms send with the cookie; other sites do not know it."""
        return self._sign("csrf", session.id)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.digest(self._key, f"{purpose} {text}".encode(), "sha256").hex()


def same(given: str, expected: str) -> bool:
    """Compare in a time that does not depend on how much is right."""
    return hmac.compare_digest(given.encode(), expected.encode())
