"""Runs the page: its watchers, and the HTTP server."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from dataclasses import dataclass

from dashboard.actions import Actions
from dashboard.app import Links, create_app
from dashboard.board import Board
from dashboard.database import Audits, Requests
from dashboard.logouts import Logouts
from dashboard.lookup import Lookups
from dashboard.management import Backlog, Management
from dashboard.outbox import Outbox
from dashboard.sessions import Role
from dashboard.watch import Pace, Source, Watcher
from turnwise.database import Database
from turnwise.errors import ExitCode, TurnwiseError
from turnwise.http_server import HttpServer
from turnwise.log import event
from turnwise.node import Node

THREADS = 12
"""Threads that answer. A page asks several times a second, and is answered from memory."""

CONNECTIONS = 500
"""The most open connections; a browser keeps one to six for each page."""

MAX_FORM = 64 * 1024
"""The most bytes of a form: fifty chosen identities fit with room to spare."""

STOP_TIMEOUT = 1.0
"""Seconds for a watcher to end. One that hangs in a read ends with the process."""

log = logging.getLogger(__name__)


class ServeError(TurnwiseError):
    """The page cannot be served."""

    exit_code = ExitCode.CONFIG


@dataclass(frozen=True, slots=True)
class Settings:
    """The command's checked options; None where an option was not given."""

    address: tuple[str, int]
    tokens: dict[Role, str]
    session_key: str | None
    proxy: str | None
    database: Database
    operator_database: Database | None
    nodes: list[Node] | None
    management: Management | None
    management_link: str | None
    grafana_link: str | None
    queue: str


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises ServeError."""
    host, port = settings.address
    board = Board(["database", "audit", "outbox", *(["broker"] if settings.management else [])])
    pace = Pace()
    lookups = Lookups(settings.database, "dashboard lookup")
    operating = (
        Lookups(settings.operator_database, "dashboard operator")
        if settings.operator_database
        else None
    )
    logouts = Logouts(operating or lookups)
    sources: list[Source] = [
        Requests(settings.database, board, logouts),
        Audits(settings.database, board),
        Outbox(settings.database, "dashboard outbox", board),
    ]
    if settings.management:
        sources.append(Backlog(settings.management, settings.queue, board))
    watchers = [Watcher(source, board, pace) for source in sources]
    app = create_app(
        board,
        tokens=settings.tokens,
        session_key=settings.session_key or "\n".join(sorted(settings.tokens.values())),
        hosts={"localhost", "127.0.0.1", "::1", host},
        links=Links(settings.management_link, settings.grafana_link),
        lookups=lookups,
        logouts=logouts,
        acting=Actions(operating) if operating else None,
        nodes=settings.nodes,
        queue=settings.queue,
        pace=pace,
        alive=lambda: all(watcher.is_alive() for watcher in watchers),
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        server = HttpServer(
            app,
            (host, port),
            threads=THREADS,
            connections=CONNECTIONS,
            max_body=MAX_FORM,
            proxy=settings.proxy,
        )
    except OSError as error:
        raise ServeError(
            f"cannot serve on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from error
    for watcher in watchers:
        watcher.start()
    # Either may be raised before server.run() handles it.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        event(log, logging.INFO, "dashboard.serving", url=_url(host, port))
        server.run()  # until either is raised
    pace.stop()
    for watcher in watchers:
        watcher.join(STOP_TIMEOUT)
    event(log, logging.INFO, "dashboard.stopped")


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
