"""The view of the dead letters, and what an operator does with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Flask, render_template, request, url_for
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from dashboard.actions import Actions, Progress
from dashboard.operating import operators_only, start
from dashboard.search import Unclear, name_in, time_in
from turnwise.dead_letters import Settled, look
from turnwise.errors import Transient
from turnwise.letter import Letter
from turnwise.node import Node

LISTED = 500
"""Letters that are looked at, the oldest first: each look takes them in hand for a moment."""

SAME_FOR = 3.0
"""Seconds for which what was seen is shown to others too: only one may look at a time."""

_NOTE_EVERY = 1.0
"""Seconds between two notes of how far an action is."""

ACTS = {"replay": "Replay", "drop": "Drop"}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; ``client`` is what the message says of itself."""

    reason: str = ""
    client: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def fields(self) -> dict[str, str]:
        """Return it as an address or a form holds it."""
        told = {
            "reason": self.reason,
            "client": self.client,
            "since": self.since.replace(tzinfo=None).isoformat() if self.since else "",
            "until": self.until.replace(tzinfo=None).isoformat() if self.until else "",
        }
        return {name: value for name, value in told.items() if value}

    def matches(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        died_at = letter.died_at
        return (
            self.reason in {"", letter.reason}
            and (not self.client or (letter.message_id or "").startswith(f"{self.client}/"))
            and (not self.since or (died_at is not None and died_at >= self.since))
            and (not self.until or (died_at is not None and died_at <= self.until))
        )


def parse(form: Mapping[str, str]) -> Filter:
    """Read a filter as it stands in an address or a form. Raises Unclear."""
    return Filter(
        reason=name_in(form.get("reason", ""), 64, "a reason"),
        client=name_in(form.get("client", "").strip(), 64, "a client"),
        since=time_in(form.get("since", "")),
        until=time_in(form.get("until", "")),
    )


class Letters:
    """Lists dead letters to all who may look, and settles them for operators.

    ``nodes`` are of an account that may read them; None: nobody can look.
    """

    def __init__(
        self, app: Flask, nodes: Sequence[Node] | None, queue: str, acting: Actions | None
    ) -> None:
        self._nodes = nodes
        self._queue = queue
        self._acting = acting
        self._lock = threading.Lock()
        self._seen: tuple[float, list[Letter]] = (0.0, [])
        app.add_url_rule("/dead", "dead", self.show)
        app.add_url_rule("/dead", "act_on_dead", self.act, methods=["POST"])

    def show(self) -> Any:
        """List the oldest letters; the filter stands in the address."""
        if self._nodes is None:
            return render_template("dead.html", view="dead", form={}, unset=True)
        try:
            wanted = parse(request.args)
        except Unclear as error:
            told = render_template("dead.html", view="dead", form={}, problem=error)
            return told, HTTPStatus.BAD_REQUEST
        listed = self._list(self._nodes)
        return render_template(
            "dead.html",
            view="dead",
            form=wanted.fields(),
            address=urlencode(wanted.fields()),
            reasons=sorted({letter.reason for letter in listed}),
            found=[letter for letter in listed if wanted.matches(letter)],
            listed=len(listed),
            partly=len(listed) >= LISTED,
        )

    def act(self) -> Any:
        """Replay or drop the chosen ones or all that match; ask before what cannot be undone."""
        acting = operators_only(self._acting)
        if self._nodes is None:
            raise BadRequest("this page was started without --operator-amqp-url")
        what = request.form.get("do", "")
        if what not in ACTS:
            raise BadRequest("say what to do: do=replay or do=drop")
        try:
            wanted = parse(request.form)
        except Unclear as error:
            raise BadRequest(str(error)) from None
        everything = request.values.get("which") == "all"
        ids: list[str] | None = request.form.getlist("id")
        if everything:
            matching = [each for each in self._list(self._nodes) if wanted.matches(each)]
            ids = [letter.id for letter in matching] if wanted != Filter() else None
        if ids == []:
            raise BadRequest("nothing was chosen, or nothing matches")
        expected = None if ids is None else len(ids)
        if request.form.get("sure") != "yes" and (what == "drop" or everything):
            count = "all" if expected is None else f"{expected:,}"
            return render_template(
                "confirm.html",
                view="dead",
                verb=ACTS[what],
                what=f"{count} dead letter{'' if expected == 1 else 's'}",
                final=what == "drop",
                note="They are removed from RabbitMQ."
                if what == "drop"
                else "They go back to the queue they came from. One that is no request comes back.",
                chosen=[] if everything else ids,
                filter=wanted.fields() if everything else {},
                back=url_for("dead"),
            )
        selection = (wanted.fields() or "all") if everything else ids
        work = self._work(what, self._nodes, None if ids is None else frozenset(ids))
        return start(acting, f"{what} dead letters", selection, expected, work)

    def _list(self, nodes: Sequence[Node]) -> list[Letter]:
        if not self._lock.acquire(timeout=2):
            raise ServiceUnavailable("somebody else is looking at the dead letters; try again")
        try:
            seen_at, letters = self._seen
            if time.monotonic() - seen_at > SAME_FOR:
                with look(nodes, self._queue, "dashboard") as found:
                    letters = found.list(LISTED)
                self._seen = time.monotonic(), letters
            return letters
        finally:
            self._lock.release()

    def _work(
        self, what: str, nodes: Sequence[Node], ids: frozenset[str] | None
    ) -> Callable[[Progress], None]:
        def work(progress: Progress) -> None:
            noted_at = time.monotonic()

            def note(read: int, _there: int) -> None:
                nonlocal noted_at
                if ids is None and time.monotonic() - noted_at > _NOTE_EVERY:
                    noted_at = time.monotonic()
                    progress.set(read)

            # No list may be looked at meanwhile: two at a time would mix up the order.
            with self._lock, look(nodes, self._queue, "dashboard") as letters:
                self._seen = (0.0, [])
                settled = (letters.replay if what == "replay" else letters.drop)(ids, note)
            progress.set(settled.done)
            _complain(settled)

        return work


def _complain(settled: Settled) -> None:
    """Raise Transient if not all was done that was asked for."""
    problems = []
    if settled.missing:
        problems.append(f"{len(settled.missing):,} of them were not there any more.")
    if settled.unreadable:
        problems.append(f"{settled.unreadable:,} stay: they cannot be read, so not sent again.")
    if problems:
        raise Transient(" ".join(problems))
