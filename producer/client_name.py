"""Client names: a readable base and a unique suffix."""

from __future__ import annotations

import os
import re
import secrets

from turnwise.message import MAX_CLIENT_LENGTH

_SUFFIX_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without characters that look alike
_SUFFIX_LENGTH = 6
MAX_BASE_LENGTH = MAX_CLIENT_LENGTH - _SUFFIX_LENGTH - 1


def unique_name(base: str) -> str:
    """Return a name for a new client: ``base`` and a random suffix."""
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return f"{base}-{suffix}"


def default_base() -> str:
    """Return the default base: the host name, without its domain."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename.partition(".")[0])
    return host[:MAX_BASE_LENGTH] or "client"
