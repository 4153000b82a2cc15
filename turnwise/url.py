"""Parses URLs that hold passwords; no error message repeats any part of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a URL, percent-decoded. ``password`` is not in its ``repr``."""

    scheme: str
    host: str | None
    port: int | None
    path: str
    """Without its leading slash."""
    query: str
    username: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"<{self.scheme}://{self.host}>"


def split(text: str) -> Parts:
    """Split a URL. Raises ValueError, whose text never repeats the URL."""
    # urllib's own errors quote what precedes the host, the password included.
    try:
        parts = urlsplit(text.strip())
        host = parts.hostname
    except ValueError:
        raise ValueError(
            "is not a valid URL: percent-encode special characters in the user name and the "
            "password (@ as %40, / as %2F)"
        ) from None
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number from 0 to 65535") from None
    return Parts(
        parts.scheme,
        host,
        port,
        unquote(parts.path[1:]),
        parts.query,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
    )


def readable(option: str, path: str) -> str:
    """Return the path of a file that an option of a URL names. Raises ValueError if unreadable."""
    try:
        with Path(path).open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"has {option}={path}, which cannot be read: {error.strerror}") from None
