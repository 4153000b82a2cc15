"""The command ``lab``."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from lab.demo import COUNT, Demo
from lab.harness import commands
from lab.harness.errors import LabError
from lab.harness.process import Process
from lab.harness.servers import DEFAULT_FOLDER, Servers
from lab.harness.trio import Trio
from lab.house import House, environment, figures_of, operators_url, page_url, start_page
from turnwise import __version__, cli, streams
from turnwise.errors import ExitCode

DOWN = "is down; 'lab up' starts it"

folder_option = cli.option(
    "--folder",
    envvar="LAB_FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where everything of the lab is.",
)
containers_option = cli.option(
    "--containers",
    envvar="LAB_CONTAINERS",
    is_flag=True,
    help="Run the servers as Docker containers, newest releases.",
)


nodes_option = cli.option(
    "--nodes",
    envvar="LAB_NODES",
    type=click.Choice(["1", "3"]),
    default="1",
    show_default=True,
    help="How many of RabbitMQ, and of the database (with Galera).",
)


@click.group(cls=cli.Group)
@click.version_option(__version__, prog_name="lab")
def main() -> None:
    """Have RabbitMQ and MariaDB of your own: private, on loopback, with generated passwords.

    The programs come from this machine or from its distribution's packages, unpacked into the
    lab's folder. No system service is installed, started or used.
    """


@main.command()
@cli.option(
    "--workers",
    envvar="LAB_WORKERS",
    type=click.IntRange(0, 100),
    default=2,
    show_default=True,
    help="How many workers; again with another number scales them.",
)
@nodes_option
@containers_option
@folder_option
@click.pass_context
def up(ctx: click.Context, workers: int, nodes: str, containers: bool, folder: Path) -> None:
    """Start the page, the servers and workers, and leave them running.

    What this starts is ended again if it is broken off: by Ctrl-C, or by an error.
    """
    _stoppable()
    if containers and nodes != "1":
        raise click.UsageError("three nodes are run as processes, not as containers")
    with _plainly():
        house = House(folder)
        servers = house.servers(containers=containers, nodes=int(nodes))
        try:
            house.start(servers, workers, click.echo)
        except KeyboardInterrupt:
            click.echo("\nstopped; what this had started is ended again", err=True)
            ctx.exit(128 + signal.SIGINT)
        _tell(house, servers)


@main.command()
@click.option("--purge", is_flag=True, help="Remove the data too: queues, tables, passwords.")
@folder_option
def down(purge: bool, folder: Path) -> None:
    """Stop the workers and the page, then the servers. Their data stay."""
    house = House(folder)
    if not house.there:
        click.echo("nothing is up")
        return
    with _plainly():
        if purge:
            house.purge()
        else:
            house.stop()
    click.echo("down" + (", and removed" if purge else "; 'lab up' goes on where it stopped"))


@main.command()
@cli.json_option
@folder_option
@click.pass_context
def status(ctx: click.Context, as_json: bool, folder: Path) -> None:
    """Tell what runs, what waits, what was served. Exit 1 if a server is down."""
    house = House(folder)
    servers = house.servers() if house.there else None
    figures = house.figures(servers) if servers else {"running": False}
    if as_json:
        click.echo(json.dumps(figures))
    elif servers and any(figures[part] for part in ("rabbitmq", "database", "workers", "page")):
        _tell(house, servers)
    else:
        click.echo("nothing is up; see 'lab up'")
    ctx.exit(ExitCode.OK if figures["running"] else ExitCode.FAILED)


@main.command()
@folder_option
def env(folder: Path) -> None:
    """Print settings for your shell:  eval "$(lab env)"."""
    house = House(folder)
    if not house.there:
        raise LabError("nothing is up; see 'lab up'")
    settings = environment(house.servers())
    if str(commands.BIN) not in os.environ.get("PATH", "").split(":"):
        settings["PATH"] = f"{commands.BIN}:{os.environ.get('PATH', '')}"
    for name, value in settings.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@containers_option
@folder_option
@click.pass_context
def demo(ctx: click.Context, containers: bool, folder: Path) -> None:
    """Watch two replicas take turns while the broker restarts and one of them is killed.

    Uses servers of its own and leaves nothing behind. Exit 0 only if the audit holds.
    """
    base = folder / f"demo-{os.getpid()}"
    _stoppable()
    page: Process | None = None
    with _plainly():
        servers = Servers(base, folder / "packages", in_containers=containers)
        try:
            servers.require()
            click.echo(f"page           {page_url(base)}")
            click.echo(f"  to act there {operators_url(base)}")
            page = start_page(servers, base, attached=True)
            click.echo(
                f"{COUNT} requests, one a second, two replicas. A replica is killed on the way, "
                "and RabbitMQ is restarted."
            )
            click.echo("Starting RabbitMQ and the database ...")
            servers.start()
            _tell_servers(figures_of(servers), servers.rabbitmq.password)
            click.echo()
            good = Demo(servers, base).run()
            _linger(page_url(base))
        except KeyboardInterrupt:
            click.echo("\nstopped; nothing is left running", err=True)
            ctx.exit(128 + signal.SIGINT)
        finally:
            if page is not None:
                page.kill()
            servers.remove()
    ctx.exit(ExitCode.OK if good else ExitCode.FAILED)


@main.command()
@cli.option("--seed", type=int, help="The schedule's seed.  [default: a new one, printed]")
@cli.option(
    "--duration", type=cli.Duration(), default="120s", show_default=True, help="Time for faults."
)
@cli.option("--count", type=click.IntRange(min=1), help="So many faults, however long it takes.")
@cli.option(
    "--gap", type=cli.Duration(), show_default="2s; 12s with --nodes 3",
    help="Time from one fault to the next, on average.",
)  # fmt: skip
@cli.option(
    "--faults",
    default="",
    help="Names and groups, separated by commas: worker, client, door, broker, database, network, "
    "broker.kill, network.latency.worker-broker ...  [default: all but outage, the long ones]",
)
@cli.option(
    "--outage", type=cli.Duration(), show_default="half a minute",
    help="How long a server is away in the faults of 'outage'.",
)  # fmt: skip
@nodes_option
@cli.option("--workers", type=click.IntRange(1, 20), default=2, show_default=True)
@cli.option("--clients", type=click.IntRange(1, 20), default=2, show_default=True)
@cli.option("--prefetch", type=click.IntRange(1, 1000), default=1, show_default=True)
@cli.option(
    "--rate", type=click.IntRange(1, 10_000), default=50, show_default=True,
    help="Requests per second of each client.",
)  # fmt: skip
@cli.option(
    "--handler", metavar="MODULE:FUNCTION",
    help="Put a handler on trial: yours, or 'money', which moves money between accounts.",
)  # fmt: skip
@cli.option(
    "--check", metavar="MODULE:FUNCTION",
    help="check(cursor) looks at the database when all is over and raises AssertionError if your "
    "invariant does not hold. Its module may have prepare(cursor), which makes your tables, and "
    "message(number), the clients' messages.",
)  # fmt: skip
@containers_option
@cli.json_option
@folder_option
@click.pass_context
def trial(
    ctx: click.Context,
    seed: int | None,
    duration: float,
    count: int | None,
    gap: float | None,
    faults: str,
    outage: float | None,
    nodes: str,
    workers: int,
    clients: int,
    prefetch: int,
    rate: int,
    handler: str | None,
    check: str | None,
    containers: bool,
    as_json: bool,
    folder: Path,
) -> None:
    """Break everything at random instants, then account for every request.

    Clients send and workers serve while faults befall processes, servers and links; then all is
    healed, the backlog drained, and what was accepted is compared with what is stored. The same
    seed gives the same schedule. Exit 0 only if each fault was seen to happen and nothing is lost,
    repeated, changed or invented. With --handler, what the handler did must be there exactly once
    for each request too, and faults befall it in mid-work (docs/handlers.md).
    """
    from lab.trial import schedule as schedules  # noqa: PLC0415
    from lab.trial.catalogue import chosen  # noqa: PLC0415
    from lab.trial.report import as_json as to_json  # noqa: PLC0415
    from lab.trial.report import picture, progress, text  # noqa: PLC0415
    from lab.trial.run import Trial  # noqa: PLC0415
    from lab.trial.workload import load  # noqa: PLC0415
    from lab.trial.world import World  # noqa: PLC0415

    seed = secrets.randbelow(1_000_000) if seed is None else seed
    try:
        kinds = chosen(faults, handler, int(nodes), outage)
    except LabError as error:
        raise click.BadParameter(str(error), param_hint="--faults") from None
    if check and not handler:
        raise click.UsageError("--check needs --handler")
    if containers and nodes != "1":
        raise click.UsageError("three nodes are run as processes, not as containers")
    workload = load(handler, check) if handler else None
    gap = gap or (schedules.GAP if nodes == "1" else schedules.GAP_OF_NODES)
    schedule = schedules.plan(
        seed, kinds, duration=None if count else duration, count=count, gap=gap
    )
    base = folder / f"trial-{seed}-{os.getpid()}"
    _stoppable()
    click.echo(f"seed {seed}: {len(schedule)} faults of {len(kinds)} kinds", err=True)
    packages = folder / "packages"
    all_servers = (
        Servers(base / "servers", packages, in_containers=containers)
        if nodes == "1"
        else Trio(base / "servers", packages)
    )
    with all_servers as servers:
        world = World(
            servers, "trial", base, workers=workers, clients=clients, prefetch=prefetch,
            per_second=rate, workload=workload,
        )  # fmt: skip
        try:
            result = Trial(world, schedule, progress).run()
        finally:
            world.close()
    if streams.is_live():
        click.echo(err=True)
    picture(result, base / "timeline.png")
    (base / "report.json").write_text(to_json(result))
    (base / "report.txt").write_text(text(result) + "\n")
    click.echo(to_json(result) if as_json else text(result))
    click.echo(f"report and timeline: {base}", err=True)
    ctx.exit(ExitCode.OK if result.holds else ExitCode.FAILED)


def _check_items(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    from lab.bench.lines import ITEMS  # noqa: PLC0415

    chosen = [item for item in value.split(",") if item] or list(ITEMS)
    if unknown := sorted(set(chosen) - set(ITEMS)):
        raise click.BadParameter(f"there is no {unknown[0]!r}; there are {', '.join(ITEMS)}")
    return chosen


@main.command()
@cli.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@cli.option(
    "--only", "items", default="", callback=_check_items, metavar="ITEM[,ITEM...]",
    help="strict, latency, drain, table, workers, malformed, producer, start, backlog, audit, "
    "page.  [default: all]",
)  # fmt: skip
@cli.option(
    "--scale", type=click.FloatRange(0, 10, min_open=True), default=1.0, show_default=True,
    help="The share of the usual number of requests; 0.01 tries it out.",
)  # fmt: skip
@cli.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the ratios: a PNG or SVG."
)
@cli.json_option
@folder_option
def bench(
    rounds: int, items: list[str], scale: float, plot: Path | None, as_json: bool, folder: Path
) -> None:
    """Measure how fast it is, beside the loops that tutorials write.

    On private servers that sync what they confirm, one contender after the other in each round.
    All that is sent is looked for afterwards. Figures of a shared machine mean little; ratios do.
    """
    from lab.bench import report  # noqa: PLC0415
    from lab.bench.run import bench as run  # noqa: PLC0415

    _stoppable()
    servers = Servers(folder / f"bench-{os.getpid()}", folder / "packages")
    try:
        servers.start()
        result = run(servers, items, rounds, scale, lambda line: click.echo(line, err=True))
    finally:
        servers.remove()
    if plot:
        report.picture(result, plot)
    click.echo(report.as_json(result) if as_json else report.text(result))


def _stoppable() -> None:
    """Have SIGTERM end it as Ctrl-C does: everything is ended on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Report what a disk or a folder does not allow in a line."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise LabError(f"{where}{error.strerror or error}") from error


def _linger(url: str) -> None:
    """Leave the page open as long as somebody at a terminal looks at it."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        click.echo(f"\nThe page, {url}, stays until you press Enter. ", nl=False)
        sys.stdin.readline()
    click.echo("\nTo have all of this to play with:  . .venv/bin/activate; lab up")


def _tell_servers(figures: Mapping[str, Any], password: str) -> None:
    rabbitmq, database = figures["rabbitmq"], figures["database"]
    click.echo(f"RabbitMQ       {rabbitmq or DOWN}")
    click.echo(f"database       {database or DOWN}")
    if rabbitmq:
        click.echo(f"management UI  {figures['management_ui']}  user lab, password {password}")


def _tell(house: House, servers: Servers | Trio) -> None:
    figures = house.figures(servers)
    click.echo(f"page           {figures['page'] or DOWN}")
    if figures["page"]:
        click.echo(f"  to act there {figures['page_as_operator']}")
    _tell_servers(figures, servers.rabbitmq.password)
    click.echo(
        f"workers        {', '.join(figures['workers']) or 'none'}  (logs: {house.base}/*.log)"
    )
    for name, messages in (figures["queues"] or {}).items():
        click.echo(f"queue          {name}: {messages:,} messages")
    for warning in figures["warnings"]:
        click.echo(f"warning        {warning}")
    if figures["served"] is not None:
        click.echo(f"served         {figures['served']:,}")
    click.echo('your shell     eval "$(lab env)"; producer send hello')
