"""The command ``worker``."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from turnwise import __version__, cli
from turnwise.errors import ExitCode, TurnwiseError

if TYPE_CHECKING:
    from turnwise.audit import Audit
    from turnwise.database import Connection, Database
    from turnwise.node import Node
    from worker.dead import DeadLetters, Letter


_PROGRESS_INTERVAL = 0.2


class LetterNotFound(TurnwiseError):
    """No such dead letter."""


def _check_name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", value, re.ASCII):
        raise click.BadParameter("must be 1 to 255 characters of A-Z a-z 0-9 . _ -")
    return value


@click.group(cls=cli.Group)
@click.version_option(__version__, prog_name="worker")
def main() -> None:
    """Serve requests in turn, and look after what was served.

    \b
    Exit codes: 0 done, 1 the audit found a gap, 2 bad usage, 69 a server is out of reach,
    77 login refused, 78 wrong set-up (virtual host, database, queue).
    """


@main.command()
@cli.option(
    "--name",
    envvar="WORKER_NAME",
    default=socket.gethostname,
    show_default="host name",
    callback=_check_name,
    help="The replica's name: consumer tag, served_by, logs. On Kubernetes, the pod's.",
)
@cli.option(
    "--prefetch",
    envvar="WORKER_PREFETCH",
    type=click.IntRange(1, 65535),
    default=1,
    show_default=True,
    help="How many requests it may have in hand. 1: strict turns. More: drains a backlog faster, "
    "with one commit for all that has arrived.",
)
@cli.http_option("WORKER_HTTP")
@cli.queue_option
@cli.log_options
@cli.amqp_option
@cli.mysql_option
def run(
    name: str,
    prefetch: int,
    http: tuple[str, int] | None,
    queue: str,
    log_level: str,
    log_format: str,
    nodes: list[Node],
    database: Database,
) -> None:
    """Serve until SIGTERM or Ctrl-C; finish what is in hand, and exit 0.

    Waits for servers that are away. A second signal ends it at once, which loses nothing either.
    """
    from turnwise import log  # noqa: PLC0415
    from turnwise.loop import Loop  # noqa: PLC0415
    from turnwise.topology import Topology  # noqa: PLC0415
    from worker.replica import Replica  # noqa: PLC0415
    from worker.store import Store  # noqa: PLC0415

    log.configure(log_level, log_format)
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(contextlib.closing(Loop()))
        stack.enter_context(loop.signals(signal.SIGINT, signal.SIGTERM))
        replica = Replica(loop, nodes, Topology(queue), Store(database, name), name, prefetch)
        if http:
            from turnwise.status_server import StatusServer  # noqa: PLC0415
            from worker.metrics import pages  # noqa: PLC0415

            stack.enter_context(StatusServer(loop, http, pages(replica.vitals)))
        replica.run()


@main.command()
@cli.log_options
@cli.mysql_option
def migrate(log_level: str, log_format: str, database: Database) -> None:
    """Create or upgrade the table; 'worker run' does so too, if its account may."""
    from turnwise import log  # noqa: PLC0415
    from worker.schema import VERSION  # noqa: PLC0415
    from worker.schema import migrate as migrate_schema  # noqa: PLC0415

    log.configure(log_level, log_format)
    with _connection(database, "worker migrate") as connection:
        steps = migrate_schema(connection, database)
    click.echo(f"{database}: version {VERSION}, {steps or 'no'} step(s) taken")


@main.command()
@click.option("--recount", is_flag=True, help="Trust nothing that was counted before.")
@cli.json_option
@cli.mysql_option
@click.pass_context
def audit(ctx: click.Context, recount: bool, as_json: bool, database: Database) -> None:
    """Tell for each client what was served, and whether anything is missing. Exit 1 on a gap.

    A request that a worker has in hand at this moment counts as missing; ask again.

    The workers count as they go, so this takes no time however many rows there are. Rows that
    somebody removed or restored by hand are noticed with --recount, which may take minutes.
    """
    from turnwise import audit as audits  # noqa: PLC0415
    from turnwise.database import translating  # noqa: PLC0415

    with _connection(database, "worker audit") as connection, translating(database):
        if recount:
            audits.recount(connection, progress=_progress("counting"))
        found = audits.audit(connection, progress=_progress("counting"))
    if as_json:
        click.echo(json.dumps({"holds": found.holds, **dataclasses.asdict(found)}))
    else:
        _print_audit(found)
    if not found.holds:
        ctx.exit(ExitCode.FAILED)


@main.group()
def dead() -> None:
    """Look after the dead letters: messages that are no requests, or contradict a stored one.

    An ID is made of a letter's content, as 'worker dead list' shows it.
    """


@dead.command("list")
@cli.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most."
)
@cli.queue_option
@cli.json_option
@cli.amqp_option
def list_(limit: int, queue: str, as_json: bool, nodes: list[Node]) -> None:
    """List the dead letters, oldest first, each with its reason."""
    with _dead_letters(nodes, queue) as letters:
        found = list(itertools.islice(letters, limit))
    if as_json:
        for letter in found:
            click.echo(json.dumps(_as_json(letter)))
        return
    if not found:
        click.echo("no dead letters")
    for letter in found:
        click.echo(f"{letter.id}  {letter.reason:<14}  {letter.message_id or '-'}")
        click.echo(f"{'':14}{letter.detail}")
        click.echo(f"{'':14}{len(letter.body):,} bytes: {letter.preview}")


@dead.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that are there now.")
@cli.queue_option
@cli.amqp_option
def replay(ids: tuple[str, ...], everything: bool, queue: str, nodes: list[Node]) -> None:
    """Send dead letters back to the queue they came from.

    Each is removed here once it is confirmed there. One that is still no request comes back.
    """
    with _dead_letters(nodes, queue) as letters:
        count = 0
        for letter in _chosen(letters, ids, everything):
            letters.replay(letter)
            count += 1
    click.echo(f"replayed {count:,}")


@dead.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that are there now.")
@cli.queue_option
@cli.amqp_option
def drop(ids: tuple[str, ...], everything: bool, queue: str, nodes: list[Node]) -> None:
    """Remove dead letters for good."""
    with _dead_letters(nodes, queue) as letters:
        count = 0
        for letter in _chosen(letters, ids, everything):
            letters.drop(letter)
            count += 1
    click.echo(f"dropped {count:,}")


@contextlib.contextmanager
def _connection(database: Database, program: str) -> Iterator[Connection]:
    with contextlib.closing(database.connect(program)) as connection:
        yield connection


@contextlib.contextmanager
def _dead_letters(nodes: list[Node], queue: str) -> Iterator[DeadLetters]:
    from turnwise import log  # noqa: PLC0415
    from turnwise.broker import Broker  # noqa: PLC0415
    from turnwise.loop import Loop  # noqa: PLC0415
    from turnwise.topology import Topology  # noqa: PLC0415
    from worker.dead import DeadLetters  # noqa: PLC0415

    log.configure("warning", "auto")
    with (
        contextlib.closing(Loop()) as loop,
        Broker.connect(loop, nodes, f"worker dead {socket.gethostname()}") as broker,
        contextlib.closing(DeadLetters(broker, Topology(queue))) as letters,
    ):
        yield letters


def _chosen(letters: DeadLetters, ids: tuple[str, ...], everything: bool) -> Iterator[Letter]:
    if everything == bool(ids):
        raise click.UsageError("name the letters by ID, or say --all")
    missing = set(ids)
    for letter in letters:
        if everything or letter.id in missing:
            missing.discard(letter.id)
            yield letter
        if not (everything or missing):
            break
    if missing:
        raise LetterNotFound(f"no dead letter {', '.join(sorted(missing))}")


def _as_json(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "message_id": letter.message_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "died_at": letter.died_at.isoformat() if letter.died_at else None,
        "size": len(letter.body),
        "body": letter.preview,
    }


def _print_audit(audit: Audit) -> None:
    head = ["client", "served", "highest", "missing", "repeated", "resume at"]
    _print_table(
        head,
        [
            [a.client, a.served, a.highest, a.missing, a.repeated, a.resume_at]
            for a in audit.clients
        ],
    )
    for account in audit.clients:
        if account.gaps:
            gaps = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in account.gaps)
            click.echo(f"missing of {account.client}: {gaps}")
    for replica, count in audit.served_by.items():
        click.echo(f"served by {replica}: {count:,}")


def _progress(what: str) -> Callable[[int, int], None]:
    """Return what shows progress on a terminal, from the second second on."""
    begun = time.monotonic()
    shown = begun

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if sys.stderr.isatty() and now - begun > 1 and now - shown > _PROGRESS_INTERVAL:
            click.echo(f"\r\x1b[K{what} {done:,} of {total:,}", nl=done == total, err=True)
            shown = now

    return show


def _print_table(head: list[str], rows: list[list[Any]]) -> None:
    texts = [head, *([f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    for row in texts:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join([row[0].ljust(len(first)), *rest]))
