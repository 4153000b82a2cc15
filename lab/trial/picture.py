"""A picture of a trial: its counts over time, and its faults below them.

matplotlib takes half a second to import, so this is imported only to draw.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from lab.trial.run import Result


def draw(result: Result, file: Path) -> None:
    """Draw accepted, served and backlog over time, with each fault as a band."""
    figure = Figure(figsize=(14, 9), layout="constrained")
    counts, faults = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    seen = [sample for sample in result.samples if sample.served is not None]
    counts.plot([s.at for s in result.samples], [s.accepted for s in result.samples],
                label="accepted", color="tab:blue")  # fmt: skip
    counts.plot([s.at for s in seen], [s.served for s in seen], label="served", color="tab:green")
    backlog = counts.twinx()
    backlog.fill_between(
        [s.at for s in seen],
        [max(0, s.accepted - (s.served or 0)) for s in seen],
        color="tab:orange",
        alpha=0.4,
        label="backlog",
    )
    counts.set_ylabel("requests")
    backlog.set_ylabel("backlog")
    counts.legend(loc="upper left")
    backlog.legend(loc="upper right")
    kinds = sorted({fault.planned.kind for fault in result.faults}, reverse=True)
    groups = sorted({kind.partition(".")[0] for kind in kinds})
    for fault in result.faults:
        if fault.on_at is None:
            continue
        faults.barh(
            kinds.index(fault.planned.kind),
            max(0.4, (fault.off_at or fault.on_at) - fault.on_at),
            left=fault.on_at,
            color=f"C{groups.index(fault.planned.kind.partition('.')[0])}",
        )
    faults.set_yticks(range(len(kinds)), kinds, fontsize=6)
    faults.set_xlabel("seconds")
    faults.grid(axis="x", alpha=0.3)
    figure.savefig(file, dpi=110)
