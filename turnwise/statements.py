"""Which statements a handler may send. Pure.

This is a list of what is allowed, not of what is forbidden: most statements end a transaction on
one server or another, and the list of those grows with each release. See "Statements
That Cause an Implicit Commit" in MySQL's and MariaDB's manuals.
"""

from __future__ import annotations

import functools
import re

_ALLOWED = frozenset(
    {
        "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "TABLE",
        "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "DO",
    }
)  # fmt: skip
_TRANSACTION = frozenset({"BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "XA"})
_SESSION = frozenset(
    {
        "SET", "USE", "LOCK", "UNLOCK", "PREPARE", "EXECUTE", "DEALLOCATE", "HANDLER",
        "FLUSH", "RESET",
    }
)  # fmt: skip

# Spaces, comments and opening parentheses. A comment that begins with /*! or /*M! is not a comment
# to the server, which executes its contents.
_BEFORE = re.compile(r"(?:[\s(]|/\*(?!!|M!).*?\*/|--(?=\s|$)[^\n]*|#[^\n]*)*", re.DOTALL)
_WRITE = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|REPLACE)\s", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_]+")
_LABEL = re.compile(r"\s*:(?!=)")

# Parts that contain no keywords: string literals, quoted names, and real comments.
_NOT_ITS_OWN = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`"
    r"|/\*(?!!|M!).*?\*/|--(?=\s|$)[^\n]*|#[^\n]*",
    re.DOTALL,
)
_SUSPECT = re.compile(r"[@:]|GET_LOCK|(?:OUT|DUMP)FILE", re.IGNORECASE)
# What an executable comment contains, the server may skip or execute: it depends on the version.
_EXECUTED = re.compile(r"/\*M?!")
_SUSPECT_IF_EXECUTED = re.compile(
    r"GET_LOCK|:=|\bINTO\b.*@|(?:OUT|DUMP)FILE", re.IGNORECASE | re.DOTALL
)
_OUTLIVES = (
    (re.compile(r"\bGET_LOCK`?\s*\(", re.IGNORECASE), "GET_LOCK", "it would outlive the request"),
    (re.compile(r":=|\bINTO\s*@", re.IGNORECASE), "variables of the session",
     "they would be there for the next request"),
    (re.compile(r"\bINTO\s+(?:OUT|DUMP)FILE\b", re.IGNORECASE), "files",
     "they would not be rolled back"),
)  # fmt: skip

_MOST_REMEMBERED = 4096
"""Characters. Longer statements are not cached."""


def objection(sql: str) -> str | None:
    """Return why a handler may not execute this statement; None if it may."""
    return _objection(sql) if len(sql) <= _MOST_REMEMBERED else _objection.__wrapped__(sql)


def only_writes(sql: str) -> bool:
    """Return whether a statement that is allowed is known to return no rows."""
    return _only_writes(sql) if len(sql) <= _MOST_REMEMBERED else False


@functools.lru_cache(maxsize=1024)
def _only_writes(sql: str) -> bool:
    return bool(_WRITE.match(sql)) and "RETURNING" not in sql.upper()


@functools.lru_cache(maxsize=1024)
def _objection(sql: str) -> str | None:
    begin = _BEFORE.match(sql)
    assert begin is not None  # noqa: S101 - it matches the empty string
    found = _WORD.match(sql, begin.end())
    word = found[0].upper() if found else sql[begin.end() :][:10]
    if word in _ALLOWED and not (found and _LABEL.match(sql, found.end())):
        return _what_outlives(sql)
    if word in _TRANSACTION:
        return (
            f"a handler may not use {word}: the worker commits when the handler returns, "
            "and rolls back when it raises"
        )
    if word == "CALL":
        return (
            "a handler may not use CALL: a procedure can commit what was done so far. "
            "Use a stored function (SELECT name()), which cannot, or send its statements"
        )
    if word in _SESSION:
        return f"a handler may not use {word}: it would outlive the request on this connection"
    return (
        f"a handler may not use {word!r}: only queries, INSERT, UPDATE, DELETE and REPLACE are "
        "sure to stay within the transaction. Change tables beforehand, in a migration of your own"
    )


def _what_outlives(sql: str) -> str | None:
    if _SUSPECT.search(sql):
        if _EXECUTED.search(sql) and (found := _SUSPECT_IF_EXECUTED.search(sql)):
            return f"a handler may not use {found[0][:40]!r} beside an executable comment"
        own = _NOT_ITS_OWN.sub(_without, sql)
        for pattern, what, why in _OUTLIVES:
            if pattern.search(own):
                return f"a handler may not use {what}: {why}"
    return None


def _without(part: re.Match[str]) -> str:
    """Return what stands for a part without keywords; a function's name may be quoted."""
    if part[0].upper() == "`GET_LOCK`":
        return part[0]
    return "''" if part[0][0] in "'\"`" else " "
