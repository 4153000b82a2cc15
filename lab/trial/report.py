"""A trial's report: text for people, JSON for machines, and its progress while it runs."""

from __future__ import annotations

import json
import statistics
from collections import Counter

import click

from lab.trial.check import KINDS
from lab.trial.run import Result, Trial
from turnwise import streams

LINE_EVERY = 15.0
"""Seconds between two lines of progress where one cannot replace the other."""


def progress(trial: Trial) -> None:
    """Show the progress: one changing line on a terminal, a line now and then elsewhere."""
    result = trial.result
    live = streams.is_live()
    if not live and result.samples[-1].at // LINE_EVERY == _sample_before(result) // LINE_EVERY:
        return
    sample = result.samples[-1]
    on = [f.planned.kind for f in result.faults if f.on_at is not None and not f.done]
    served = "?" if sample.served is None else f"{sample.served:,}"
    line = (
        f"{sample.at:6.0f} s  fault {len(result.faults)} of {len(trial.schedule)}"
        f"  accepted {sample.accepted:,}  served {served}  {', '.join(on)}"
    )[:150]
    click.echo(f"\r\x1b[K{line}" if live else line, nl=not live, err=True)


def _sample_before(result: Result) -> float:
    return result.samples[-2].at if len(result.samples) > 1 else -LINE_EVERY


def text(result: Result) -> str:
    """Return the report."""
    happened = Counter(fault.planned.kind for fault in result.faults)
    last = {fault.planned.kind: fault.proof for fault in result.faults if fault.proof}
    shares = ", ".join(f"{name}: {share:,}" for name, share in result.served_by.items())
    peaks = ", ".join(f"{n}: {peak / 2**20:.0f} MiB" for n, peak in result.peak_memory.items())
    lines = [
        f"{len(result.faults)} faults in {result.seconds:.0f} s, {result.restarts} restarts",
        "",
        *(
            f"{happened[kind]:>4}  {kind:<44}  {last.get(kind, 'NOT SEEN TO HAPPEN')}"
            for kind in sorted(happened)
        ),
        "",
        "seconds without a row, from a fault's start until all was whole again: median, worst",
        *_silences(result),
        "",
        f"accepted  {result.accepted:,}, of those {result.confirmed:,} by HTTP,",
        f"          {result.committed:,} by the table",
        f"by HTTP   {result.doubtful:,} PUTs not answered 201; after one of them the caller died",
        f"          {result.given_up:,} times, and {result.given_up_served:,} of those are stored",
        f"by table  {result.undone:,} in transactions that were not committed, and",
        f"          {result.in_doubt:,} in transactions whose COMMIT had no answer",
        f"stored    {result.served:,}, repeats absorbed {result.repeats_absorbed:,}",
        f"served by {shares}",
        f"farthest ahead of the lowest request not yet served: {result.ahead}",
        f"peak memory {peaks}",
    ]
    if result.deadly:
        lines.append(
            f"given up  {result.deadly:,} whose workers ended three times while they held"
            " them; served by the final retry"
        )
    recovery = result.recovery
    if recovery.seconds:
        lines.append(
            "from a server's answer to the next row: "
            + ", ".join(
                f"{name} {recovery.percentile(share) or 0:.2f} s"
                for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
            )
            + f" ({len(recovery.seconds)} counted, {recovery.overtaken} overtaken by another fault)"
        )
    lines.append("")
    for kind, meaning in KINDS.items():
        count = result.findings.counts[kind]
        if count:
            lines.append(f"{kind} {count}: {meaning}")
            lines += [f"      {case}" for case in result.findings.cases[kind]]
    quiet = [kind for kind in KINDS if not result.findings.counts[kind]]
    lines.append("none " + ", ".join(quiet))
    if not result.drained:
        lines.append("NOT DRAINED: not everything was served in time")
    lines += [f"VOID: {fault.planned.kind} was not seen to happen" for fault in result.void]
    lines.append("")
    lines.append(
        "Each request was recorded exactly once." if result.holds else "This trial failed."
    )
    return "\n".join(lines)


def _silences(result: Result) -> list[str]:
    """Return a line for each kind of fault; other faults may have been active at the same time."""
    found: dict[str, list[float]] = {}
    for fault in result.faults:
        if fault.silence is not None:
            found.setdefault(fault.planned.kind, []).append(fault.silence)
    return [
        f"      {kind:<44}  {statistics.median(seconds):5.1f}  {max(seconds):5.1f}"
        for kind, seconds in sorted(found.items())
    ]


def as_json(result: Result) -> str:
    """Return the result for machines."""
    return json.dumps(
        {
            "holds": result.holds,
            "seconds": round(result.seconds, 1),
            "accepted": result.accepted,
            "confirmed_by_http": result.confirmed,
            "doubtful_tries": result.doubtful,
            "given_up": result.given_up,
            "given_up_served": result.given_up_served,
            "committed_to_the_table": result.committed,
            "rolled_back": result.undone,
            "in_doubt": result.in_doubt,
            "served": result.served,
            "given_up_as_deadly": result.deadly,
            "findings": dict(result.findings.counts),
            "cases": dict(result.findings.cases),
            "void": [fault.planned.kind for fault in result.void],
            "faults": [
                {
                    "number": fault.planned.number,
                    "kind": fault.planned.kind,
                    "on": fault.on_at,
                    "off": fault.off_at,
                    "silence": fault.silence,
                    "proof": fault.proof,
                }
                for fault in result.faults
            ],
            "repeats_absorbed": result.repeats_absorbed,
            "farthest_ahead": result.ahead,
            "served_by": result.served_by,
            "restarts": result.restarts,
            "peak_memory": result.peak_memory,
            "recovery": result.recovery.as_dict(),
        }
    )
