"""A benchmark's report: a Markdown table for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json

from lab.bench.lines import Line, Spread, Told
from lab.bench.run import Result

_HEAD = ("", "median", "min - max", "beside", "ratio", "min - max")


def text(result: Result) -> str:
    """Return the report as a Markdown table."""
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    cells = [_HEAD, *(_cells(told) for told in result.told)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEAD))]
    rows = [
        "| " + " | ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([f"{len(result.rounds)} rounds; {machine}", "", *rows])


def _cells(told: Told) -> tuple[str, ...]:
    line, ratio = told.line, told.ratio
    return (
        line.label,
        f"{number(told.figure.median)} {line.unit}",
        _range(told.figure),
        _beside(line),
        number(ratio.median) if ratio else "",
        _range(ratio) if ratio else "",
    )


def _beside(line: Line) -> str:
    """Return the contender beside a line; for one that probes several, which of them."""
    if line.against is None:
        return ""
    contender, figure = line.against
    return figure.rpartition("_")[0] if contender == line.figure[0] else contender


def _range(spread: Spread) -> str:
    return f"{number(spread.low)} - {number(spread.high)}"


def number(value: float) -> str:
    """Format a number with three significant digits."""
    for limit, form in ((100, ",.0f"), (10, ".1f"), (1, ".2f")):
        if value >= limit:
            return f"{value:{form}}"
    return f"{value:.3f}"


def as_json(result: Result) -> str:
    """Return everything as JSON, for machines."""
    return json.dumps(
        {
            "machine": result.machine,
            "lines": [{**dataclasses.asdict(t), "reached": t.reached} for t in result.told],
            "rounds": result.rounds,
        },
        indent=2,
    )
