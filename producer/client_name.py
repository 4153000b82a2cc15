"""Client names: a readable base and a unique suffix."""

from __future__ import annotations

import os
import re
import secrets

import click

from turnwise.message import MAX_CLIENT_LENGTH

_SUFFIX_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without characters that look alike
_SUFFIX_LENGTH = 6
_MAX_BASE_LENGTH = MAX_CLIENT_LENGTH - _SUFFIX_LENGTH - 1


def unique_name(base: str) -> str:
    """Return a name for a new client: ``base`` and a random suffix."""
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return f"{base}-{suffix}"


def default_base() -> str:
    """Return the default base: the host name, without its domain."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename.partition(".")[0])
    return host[:_MAX_BASE_LENGTH] or "client"


def check_base(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Check the value of an option: with a suffix, it must be a valid client name."""
    if value is not None and not re.fullmatch(
        rf"[A-Za-z0-9._-]{{1,{_MAX_BASE_LENGTH}}}", value, re.ASCII
    ):
        raise click.BadParameter(f"must be 1 to {_MAX_BASE_LENGTH} characters of A-Z a-z 0-9 . _ -")
    return value
