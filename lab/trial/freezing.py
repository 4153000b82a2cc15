"""A process that stands still, and goes on later."""

from __future__ import annotations

from lab.trial.faults import ON, WAIT, Course
from lab.trial.members import Member


def freeze(member: Member) -> Course:
    """Freeze a member while the fault lasts; None if it was not frozen to the end."""
    while not member.process.alive():
        yield WAIT
    before = member.process.identity()
    member.frozen_holds += 1
    member.disturb()
    member.process.pause()
    try:
        while member.process.identity() == before and member.state != "T":
            yield WAIT
        yield ON
        state = member.state
    finally:
        member.frozen_holds -= 1
        if not member.frozen_holds:
            member.process.resume()
    if member.process.identity() != before:
        return f"{member.name}: {before} was frozen, and ended so"
    return f"{member.name}: {before} in state {state} to the end" if state == "T" else None
