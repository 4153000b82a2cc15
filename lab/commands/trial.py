"""``lab trial``."""

from __future__ import annotations

import importlib
import os
import secrets
from pathlib import Path

import click

from lab.commands.shared import containers_option, folder_option, nodes_option, stoppable
from lab.harness.errors import LabError
from lab.harness.servers import Servers
from lab.harness.trio import Trio
from lab.trial import schedule as schedules
from lab.trial.catalogue import chosen
from lab.trial.report import as_json as to_json
from lab.trial.report import progress, text
from lab.trial.run import Trial
from lab.trial.workload import load
from lab.trial.world import World
from turnwise import cli, parameters, streams
from turnwise.errors import ExitCode


@click.command("trial", cls=cli.Command)
@cli.option("--seed", type=int, help="The seed of the schedule.  [default: random, and printed]")
@cli.option(
    "--duration",
    type=parameters.Duration(),
    default="120s",
    show_default=True,
    help="How long to inject faults.",
)
@cli.option(
    "--count", type=click.IntRange(min=1), help="Inject this many faults, however long it takes."
)
@cli.option(
    "--gap", type=parameters.Duration(), show_default="2s; 12s with --nodes 3",
    help="The average time between two faults.",
)  # fmt: skip
@cli.option(
    "--faults",
    default="",
    help="Kinds and groups of faults, separated by commas: worker, client, door, broker, database, "
    "network, broker.kill, network.latency.worker-broker ...  [default: all but 'outage', which "
    "are long]",
)
@cli.option(
    "--outage", type=parameters.Duration(), show_default="30s",
    help="How long a server is down in the faults of 'outage'.",
)  # fmt: skip
@nodes_option
@cli.option(
    "--workers", type=click.IntRange(1, 20), default=2, show_default=True,
    help="How many workers serve.",
)  # fmt: skip
@cli.option(
    "--clients", type=click.IntRange(1, 20), default=2, show_default=True,
    help="How many clients send.",
)  # fmt: skip
@cli.option(
    "--prefetch", type=click.IntRange(1, 1000), default=1, show_default=True,
    help="The workers' --prefetch.",
)  # fmt: skip
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
    help="check(cursor) is called at the end and raises AssertionError if your invariant does not "
    "hold. Its module may also have prepare(cursor), which creates your tables, and "
    "message(number), which returns a client's message.",
)  # fmt: skip
@containers_option
@cli.json_option
@folder_option
@click.pass_context
def command(
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
    """Inject faults of all kinds at random times, then account for every request.

    Clients send and workers serve while faults hit processes, servers and links. Then everything is
    healed, the backlog is drained, and what was accepted is compared with what is stored. The same
    seed gives the same schedule. Exits 0 only if each fault was seen to happen and nothing was
    lost, repeated, changed or invented. With --handler, faults also hit the handler in mid-work,
    and its effects must be there exactly once for each request (docs/handlers.md).
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    try:
        kinds = chosen(faults, handler, int(nodes), outage)
    except LabError as error:
        raise click.BadParameter(str(error), param_hint="--faults") from None
    if check and not handler:
        raise click.UsageError("--check needs --handler")
    if containers and nodes != "1":
        raise click.UsageError("--nodes 3 runs processes: leave out --containers")
    workload = load(handler, check) if handler else None
    gap = gap or (schedules.GAP if nodes == "1" else schedules.GAP_OF_NODES)
    schedule = schedules.plan(
        seed, kinds, duration=None if count else duration, count=count, gap=gap
    )
    base = folder / f"trial-{seed}-{os.getpid()}"
    stoppable()
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
    (base / "report.json").write_text(to_json(result))
    (base / "report.txt").write_text(text(result) + "\n")
    importlib.import_module("lab.trial.picture").draw(result, base / "timeline.png")
    click.echo(to_json(result) if as_json else text(result))
    click.echo(f"report and timeline: {base}", err=True)
    ctx.exit(ExitCode.OK if result.holds else ExitCode.FAILED)
