"""A fault that freezes a process, and resumes it later."""

from __future__ import annotations

from lab.trial.faults import ON, WAIT, Course
from lab.trial.members import Member


def freeze(member: Member) -> Course:
    """Freeze a member while the fault lasts; return None if it was not frozen until the end."""
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
        return f"{member.name}: {before} ended while it was frozen"
    return f"{member.name}: {before} in state {state} until the end" if state == "T" else None
