"""Who is logged in: a cookie that any page with the same key can read, and none can forge. Pure.

No page keeps a list of sessions, so that two behind a load balancer need not know of each other,
and a token can be changed without ending anybody's session.
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
"""Characters of a token or a key, at least."""


class Role(enum.StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has logged in. ``name`` is what they call themselves, until ``ends``."""

    id: str
    role: Role
    name: str
    ends: float


class Sessions:
    """Signs sessions with ``key`` and reads them again."""

    def __init__(self, key: str) -> None:
        # Slow to derive: a cookie must not be a quick way to guess a token that it is made from.
        self._key = hashlib.scrypt(key.encode(), salt=b"turnwise page", n=2**14, r=8, p=1)

    def begin(self, role: Role, name: str, now: float) -> Session:
        """Return a new session; ``now`` is Unix time."""
        return Session(secrets.token_urlsafe(16), role, name, now + LASTS)

    def seal(self, session: Session) -> str:
        """Return what the cookie holds."""
        told = [session.id, session.role, session.name, int(session.ends)]
        body = base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
        return f"{body}.{self._sign('session', body)}"

    def open(self, cookie: str, now: float) -> Session | None:
        """Return the session of a cookie; None if it is not ours, or has ended."""
        body, _, signature = cookie.partition(".")
        if not same(signature, self._sign("session", body)):
            return None
        try:
            text = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            id_, role, name, ends = json.loads(text)
            session = Session(id_, Role(role), name, float(ends))
        except (binascii.Error, ValueError, TypeError):
            return None  # of an earlier release
        return session if now < session.ends else None

    def csrf(self, session: Session) -> str:
        """Return what a form must send along with the cookie: no other site's page knows it."""
        return self._sign("csrf", session.id)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.digest(self._key, f"{purpose} {text}".encode(), "sha256").hex()


def same(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing of how much is right."""
    return hmac.compare_digest(given.encode(), expected.encode())
