"""Code shared by all processes, and what a handler imports: Request, Reject, Retry."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from turnwise.handler import Handler, Reject, Retry, Rows, Transaction

if TYPE_CHECKING:
    from turnwise.message import Request

__version__ = "0.1.0"
__all__ = ["Handler", "Reject", "Request", "Retry", "Rows", "Transaction", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported lazily: it needs pika, whose import would make --help slow.
    if name == "Request":
        return importlib.import_module("turnwise.message").Request
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
