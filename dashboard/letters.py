"""The view of the dead letters, and an operator's actions on them."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Flask, render_template, request, url_for
from werkzeug.exceptions import BadRequest, NotFound, ServiceUnavailable

from dashboard.actions import Actions, Progress
from dashboard.asking import Unclear, identity_in, name_in, span_in
from dashboard.operating import operators_only, start
from turnwise.dead_letters import Choice, Found, Settled, look
from turnwise.errors import Transient
from turnwise.letter import CONFLICT, INVALID, Letter
from turnwise.node import Node

PAGE = 50
"""Letters on one page."""

LOOKED = 20_000
"""The most letters read, oldest first: each look holds them unacked for a moment."""

SAME_FOR = 3.0
"""Seconds for which a result is shown to others too, since only one may look at a time."""

_NOTE_EVERY = 1.0
"""Seconds between two records of an action's progress."""

ACTS = {"replay": "Replay", "drop": "Drop"}

REASONS = (CONFLICT, "delivery_limit", INVALID)
"""The reasons of dead letters, unless an operator has configured further limits."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects letters; ``client`` is the one that the message itself names."""

    reason: str = ""
    client: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def fields(self) -> dict[str, str]:
        """Return the filter's fields as in an address or a form."""
        values = {
            "reason": self.reason,
            "client": self.client,
            "since": self.since.replace(tzinfo=None).isoformat() if self.since else "",
            "until": self.until.replace(tzinfo=None).isoformat() if self.until else "",
        }
        return {name: value for name, value in values.items() if value}

    def matches(self, letter: Letter) -> bool:
        """Return whether a letter matches."""
        died_at = letter.died_at
        return (
            self.reason in {"", letter.reason}
            and (not self.client or (letter.message_id or "").startswith(f"{self.client}/"))
            and (not self.since or (died_at is not None and died_at >= self.since))
            and (not self.until or (died_at is not None and died_at <= self.until))
        )


def parse(form: Mapping[str, str]) -> Filter:
    """Parse a filter from an address or a form. Raises Unclear."""
    since, until = span_in(form)
    return Filter(
        reason=name_in(form.get("reason", ""), 64, "a reason"),
        client=name_in(form.get("client", "").strip(), 64, "a client"),
        since=since,
        until=until,
    )


class Letters:
    """Lists dead letters to every viewer, and settles them for operators.

    ``nodes`` use an account that may read them; None: the page cannot show them.
    """

    def __init__(
        self, app: Flask, nodes: Sequence[Node] | None, queue: str, acting: Actions | None
    ) -> None:
        self._nodes = nodes
        self._queue = queue
        self._acting = acting
        self._lock = threading.Lock()
        self._seen: tuple[float, object, Found] = (0.0, None, Found([], 0, 0))
        app.add_url_rule("/dead", "dead", self.show)
        app.add_url_rule("/dead/<id_>", "letter", self.one)
        app.add_url_rule("/dead", "act_on_dead", self.act, methods=["POST"])

    def show(self) -> Any:
        """List the oldest letters; the address holds the filter."""
        if self._nodes is None:
            return render_template("dead.html", view="dead", form={}, unset=True)
        try:
            wanted = parse(request.args)
        except Unclear as error:
            html = render_template(
                "dead.html", view="dead", form=request.args, reasons=REASONS, problem=str(error)
            )
            return html, HTTPStatus.BAD_REQUEST
        page = min(max(request.args.get("page", 1, type=int), 1), LOOKED // PAGE)
        found = self._search(self._nodes, wanted, page * PAGE + 1)
        shown = found.letters[(page - 1) * PAGE : page * PAGE]
        more = len(found.letters) > page * PAGE
        fields = wanted.fields()
        return render_template(
            "dead.html",
            view="dead",
            form=fields,
            reasons=sorted({*REASONS, *(letter.reason for letter in shown)}),
            found=shown,
            first=(page - 1) * PAGE + 1,
            there=found.there,
            # RabbitMQ delivers from the head only, so the rest stays out of reach.
            unseen=found.there - found.looked if found.looked >= LOOKED and not more else 0,
            older=urlencode(fields | {"page": page - 1}) if page > 1 else None,
            newer=urlencode(fields | {"page": page + 1}) if more else None,
        )

    def one(self, id_: str) -> Any:
        """Show one letter in full."""
        if self._nodes is None:
            raise BadRequest("this page was started without --operator-amqp-url")
        with self._looking(), look(self._nodes, self._queue, "dashboard") as letters:
            whole = letters.find(id_, LOOKED)
        if whole is None:
            raise NotFound(f"no letter {id_[:20]} is among the oldest {LOOKED:,}; it may be gone")
        identity = None
        with contextlib.suppress(Unclear):
            identity = identity_in(whole.letter.message_id or "")
        return render_template("letter.html", view="dead", whole=whole, identity=identity)

    def act(self) -> Any:
        """Replay or drop the chosen or all matching letters, after confirmation where needed."""
        acting = operators_only(self._acting)
        if self._nodes is None:
            raise BadRequest("this page was started without --operator-amqp-url")
        what = request.form.get("do", "")
        if what not in ACTS:
            raise BadRequest("choose what to do: do=replay or do=drop")
        try:
            wanted = parse(request.form)
        except Unclear as error:
            raise BadRequest(str(error)) from None
        everything = request.values.get("which") == "all"
        ids = list(dict.fromkeys(request.form.getlist("id")))
        if not all(re.fullmatch("[0-9a-f]{12}", id_) for id_ in ids):
            raise BadRequest("this is not the ID of a dead letter")
        if not ids and not everything:
            raise BadRequest("nothing was chosen")
        expected: int | None = len(ids)
        count = f"{expected:,}"
        if everything:
            expected, count = self._count(self._nodes, wanted)
        if request.form.get("sure") != "yes" and (what == "drop" or everything):
            return render_template(
                "confirm.html",
                view="dead",
                verb=ACTS[what],
                what=f"{count} dead letter{'' if expected == 1 else 's'}",
                final=what == "drop",
                note="They are removed from RabbitMQ."
                if what == "drop"
                else "They go back to their queue. An invalid one is dead-lettered again.",
                chosen=[] if everything else ids,
                filter=wanted.fields() if everything else {},
                more={},
                back=f"{url_for('dead')}?{urlencode(wanted.fields())}".rstrip("?"),
            )
        selection = (wanted.fields() or "all") if everything else ids
        choice: Choice = frozenset(ids)
        if everything:
            choice = None if wanted == Filter() else wanted.matches
        work = self._work(what, self._nodes, choice)
        return start(acting, f"{what} dead letters", selection, expected, work)

    def _search(self, nodes: Sequence[Node], wanted: Filter, limit: int) -> Found:
        with self._looking():
            seen_at, asked, found = self._seen
            if asked != (wanted, limit) or time.monotonic() - seen_at > SAME_FOR:
                with look(nodes, self._queue, "dashboard") as letters:
                    found = letters.search(limit, LOOKED, wanted.matches)
                self._seen = time.monotonic(), (wanted, limit), found
            return found

    def _count(self, nodes: Sequence[Node], wanted: Filter) -> tuple[int | None, str]:
        """Return how many letters match, None if they are too many to look at, and as words."""
        if wanted == Filter():
            there = self._search(nodes, wanted, PAGE + 1).there
            return there, f"{there:,}"
        found = self._search(nodes, wanted, LOOKED)
        if found.looked == found.there:
            return len(found.letters), f"{len(found.letters):,}"
        return None, f"all that match, at least {len(found.letters):,}"

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        """Exclude others: two looks at a time would mix up the order."""
        if not self._lock.acquire(timeout=2):
            raise ServiceUnavailable("another user is looking at the dead letters; try again")
        try:
            yield
        finally:
            self._lock.release()

    def _work(self, what: str, nodes: Sequence[Node], choice: Choice) -> Callable[[Progress], None]:
        def work(progress: Progress) -> None:
            noted_at = time.monotonic()

            def note(_read: int, _there: int) -> None:
                nonlocal noted_at
                if time.monotonic() - noted_at > _NOTE_EVERY:
                    noted_at = time.monotonic()
                    progress.set(letters.settled)

            with self._lock, look(nodes, self._queue, "dashboard") as letters:
                self._seen = (0.0, None, self._seen[2])
                try:
                    settled = (letters.replay if what == "replay" else letters.drop)(choice, note)
                finally:
                    progress.set(letters.settled)
            _complain(settled)

        return work


def _complain(settled: Settled) -> None:
    """Raise Transient if some letters were not settled as asked."""
    problems = []
    if settled.missing:
        problems.append(f"{len(settled.missing):,} of them were no longer there.")
    if settled.unreadable:
        problems.append(f"{settled.unreadable:,} stay: they cannot be read, so not sent again.")
    if problems:
        raise Transient(" ".join(problems))
