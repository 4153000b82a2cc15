"""A picture of a benchmark's ratios.

matplotlib takes half a second to import, so this is imported only to draw.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from lab.bench.report import number
from lab.bench.run import Result


def draw(result: Result, file: Path) -> None:
    """Draw each ratio with its spread."""
    drawn = [(told.line, told.ratio) for told in reversed(result.told) if told.ratio]
    figure = Figure(figsize=(11, 1.2 + 0.45 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    for place, (line, ratio) in enumerate(drawn):
        colour = "tab:blue" if line.less_is_better else "tab:green"
        axes.plot([ratio.low, ratio.high], [place, place], color=colour, linewidth=6, alpha=0.4)
        axes.plot(ratio.median, place, "o", color=colour)
        axes.annotate(f"{number(ratio.median)}", (ratio.median, place), (0, 8),
                      textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(drawn)), [line.label for line, _ in drawn])
    axes.set_xlabel("ratio, median and range of the rounds. Green: more is better, blue: less is")
    axes.grid(axis="x", alpha=0.3)
    axes.margins(y=0.1)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
