"""What a bench tells: a Markdown table, JSON, and a picture of the ratios."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from matplotlib.figure import Figure

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
        f"{_number(told.figure.median)} {line.unit}",
        _range(told.figure),
        _beside(line),
        _number(ratio.median) if ratio else "",
        _range(ratio) if ratio else "",
    )


def _beside(line: Line) -> str:
    """Return whose figure is beside it; of a contender that asks several, which of them."""
    if line.against is None:
        return ""
    contender, figure = line.against
    return figure.rpartition("_")[0] if contender == line.figure[0] else contender


def _range(spread: Spread) -> str:
    return f"{_number(spread.low)} - {_number(spread.high)}"


def _number(value: float) -> str:
    """Three digits that count."""
    for limit, form in ((100, ",.0f"), (10, ".1f"), (1, ".2f")):
        if value >= limit:
            return f"{value:{form}}"
    return f"{value:.3f}"


def as_json(result: Result) -> str:
    """Return everything, for machines."""
    return json.dumps(
        {
            "machine": result.machine,
            "lines": [{**dataclasses.asdict(t), "reached": t.reached} for t in result.told],
            "rounds": result.rounds,
        },
        indent=2,
    )


def picture(result: Result, file: Path) -> None:
    """Draw each ratio with its spread."""
    drawn = [(told.line, told.ratio) for told in reversed(result.told) if told.ratio]
    figure = Figure(figsize=(11, 1.2 + 0.45 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    for place, (line, ratio) in enumerate(drawn):
        colour = "tab:blue" if line.less_is_better else "tab:green"
        axes.plot([ratio.low, ratio.high], [place, place], color=colour, linewidth=6, alpha=0.4)
        axes.plot(ratio.median, place, "o", color=colour)
        axes.annotate(f"{_number(ratio.median)}", (ratio.median, place), (0, 8),
                      textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(drawn)), [line.label for line, _ in drawn])
    axes.set_xlabel("ratio, median and range of the rounds. Green: more is better, blue: less is")
    axes.grid(axis="x", alpha=0.3)
    axes.margins(y=0.1)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
