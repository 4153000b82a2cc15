"""``lab bench``."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import click

from lab.bench import report
from lab.bench.lines import ITEMS
from lab.bench.run import bench as run
from lab.commands.shared import folder_option, stoppable
from lab.harness.servers import Servers
from turnwise import cli


def _check_items(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    chosen = [item for item in value.split(",") if item] or list(ITEMS)
    if unknown := sorted(set(chosen) - set(ITEMS)):
        raise click.BadParameter(f"there is no {unknown[0]!r}; there are {', '.join(ITEMS)}")
    return chosen


@click.command("bench", cls=cli.Command)
@cli.option(
    "--rounds", type=click.IntRange(1, 100), default=3, show_default=True,
    help="How many times to run all contenders.",
)  # fmt: skip
@cli.option(
    "--only", "items", default="", callback=_check_items, metavar="ITEM[,ITEM...]",
    help=f"{', '.join(ITEMS)}.  [default: all]",
)  # fmt: skip
@cli.option(
    "--scale", type=click.FloatRange(0, 10, min_open=True), default=1.0, show_default=True,
    help="The share of the usual number of requests; 0.01 gives a quick try.",
)  # fmt: skip
@cli.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the ratios as a PNG or SVG.",
)
@cli.json_option
@folder_option
def command(
    rounds: int, items: list[str], scale: float, plot: Path | None, as_json: bool, folder: Path
) -> None:
    """Benchmark it against textbook loops.

    It uses private servers that sync what they confirm, and runs the contenders in turn in each
    round. Afterwards it checks that all that was sent has arrived. On a shared machine, trust the
    ratios rather than the figures.
    """
    stoppable()
    servers = Servers(folder / f"bench-{os.getpid()}", folder / "packages")
    try:
        servers.start()
        result = run(servers, items, rounds, scale, lambda line: click.echo(line, err=True))
    finally:
        servers.remove()
    if plot:
        importlib.import_module("lab.bench.picture").draw(result, plot)
    click.echo(report.as_json(result) if as_json else report.text(result))
