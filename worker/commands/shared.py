"""Helpers that several commands of ``worker`` share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from turnwise import streams
from turnwise.database import Connection, Database

_PROGRESS_INTERVAL = 0.2


@contextlib.contextmanager
def connection_to(database: Database, program: str) -> Iterator[Connection]:
    """Yield a connection that the server's process list shows as ``program``."""
    with contextlib.closing(database.connect(program)) as connection:
        yield connection


def progress(what: str) -> Callable[[int, int], None]:
    """Return a callback that shows progress on a terminal, from one second after this call."""
    begun = time.monotonic()
    shown = begun
    live = streams.is_live()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if live and now - begun > 1 and now - shown > _PROGRESS_INTERVAL:
            click.echo(f"\r\x1b[K{what} {done:,} of {total:,}", nl=done == total, err=True)
            shown = now

    return show


def print_table(head: list[str], rows: list[list[Any]]) -> None:
    """Print a table whose first column is text and whose others are figures."""
    texts = [head, *([f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    for row in texts:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join([row[0].ljust(len(first)), *rest]))
