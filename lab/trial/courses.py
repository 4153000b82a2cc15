"""Building blocks of faults: slow work in a thread, and faults composed of others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lab.trial.faults import ON, WAIT, Course, Stage

T = TypeVar("T")


def background(work: Callable[[], T]) -> Generator[Stage, None, T]:
    """Run slow work in a thread, and wait for its result."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        while not future.done():
            yield WAIT
        return future.result()


def unnoticed(course: Course) -> Course:
    """Run a fault as a part of another, without starting the other's time."""
    while True:
        try:
            next(course)
        except StopIteration as end:
            return str(end.value) if end.value else None
        yield WAIT


def together(courses: Sequence[Course]) -> Course:
    """Begin all, wait until all are on, and end all."""
    with contextlib.ExitStack() as stack:
        for course in courses:
            stack.callback(course.close)
            while next(course) is not ON:
                yield WAIT
        yield ON
        proofs: list[str | None] = []
        for course in courses:
            proof = yield from unnoticed(course)
            proofs.append(proof)
    return "; ".join(proof for proof in proofs if proof) if all(proofs) else None
