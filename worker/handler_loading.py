"""MODULE:FUNCTION -> the user's handler, or one clear line that says what is wrong with it."""

from __future__ import annotations

import importlib
import importlib.machinery
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from turnwise.errors import ExitCode, TurnwiseError
from turnwise.handler import Handler

_OURS = ("turnwise", "producer", "worker", "dashboard")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


class HandlerNotFound(TurnwiseError):
    """There is no such handler."""

    exit_code = ExitCode.CONFIG


def load(name: str) -> Handler:
    """Import a handler: ``orders:serve`` is the function ``serve`` of the module ``orders``.

    Searches the current folder, PYTHONPATH and the installed packages, in this order. Raises
    HandlerNotFound.
    """
    if not _NAME.fullmatch(name):
        raise HandlerNotFound(
            f"{name!r} is not a handler's name; write MODULE:FUNCTION, like orders:serve"
        )
    module_name, _, path = name.partition(":")
    top = module_name.partition(".")[0]
    if top in _OURS:
        raise HandlerNotFound(
            f"{top!r} is the name of one of Turnwise's own packages; give yours another name"
        )
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if folder not in sys.path:
        sys.path.insert(0, folder)
    handler: object = _import(module_name, folder)
    for part in path.split("."):
        if not hasattr(handler, part):
            raise HandlerNotFound(f"{module_name} has no {path!r}")
        handler = getattr(handler, part)
    return _checked(handler, name)


def _import(name: str, folder: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise HandlerNotFound(
                f"there is no module {error.name!r} in {folder}, PYTHONPATH, or what is installed"
            ) from error
        raise HandlerNotFound(f"{name} cannot be imported: {error}{_hint(folder)}") from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        hint = _hint(folder) if isinstance(error, ImportError | AttributeError) else ""
        raise HandlerNotFound(f"{name} cannot be imported: {why}{_where(error)}{hint}") from error
    except SystemExit as error:
        raise HandlerNotFound(f"{name} ends the process when it is imported") from error


def _where(error: BaseException) -> str:
    """Return the file and line of the user's code in which an import failed."""
    if isinstance(error, SyntaxError):
        return ""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _hint(folder: str) -> str:
    """Return a hint if one of our packages hides a package of the same name in ``folder``."""
    for name in _hidden(folder):
        return (
            f". There is a package {name!r} in {folder}, which is the name of one of Turnwise's "
            "own; give yours another name"
        )
    return ""


def _hidden(folder: str) -> Iterator[str]:
    for name in _OURS:
        found = importlib.machinery.PathFinder.find_spec(name, [folder])
        ours = sys.modules[name].__file__ if name in sys.modules else None
        if found and (found.origin is None or not _same(found.origin, ours)):
            yield name


def _same(one: str, other: str | None) -> bool:
    return other is not None and Path(one).resolve() == Path(other).resolve()


def _checked(handler: object, name: str) -> Handler:
    if not callable(handler):
        raise HandlerNotFound(f"{name} is not a function but {type(handler).__name__}")
    if inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler):
        raise HandlerNotFound(f"{name} is async; a handler is a plain function")
    if inspect.isgeneratorfunction(handler):
        raise HandlerNotFound(f"{name} is a generator; a handler is a plain function")
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return handler  # written in C, without a signature to check
    try:
        signature.bind(None, None)
    except TypeError:
        raise HandlerNotFound(f"{name} takes {signature}; a handler takes (request, db)") from None
    return handler
