"""The operator's views: failures, the confirmation of an action, and the log of actions."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Flask, g, redirect, render_template, request, url_for
from werkzeug.exceptions import BadRequest, Forbidden, NotFound, ServiceUnavailable
from werkzeug.wrappers import Response

from dashboard import actions, failures
from dashboard.actions import Actions, Progress, TooMany
from dashboard.asking import Unclear
from dashboard.failures import Filter
from dashboard.lookup import Lookups
from dashboard.sessions import Role, Session

_LATEST = 2**63 - 1

COUNT_FOR = 2.0
"""Seconds to count those that match, before the question whether to act on all of them."""

LONGEST_ADDRESS = 64
"""Characters of an address in the log of actions."""

ACTS = {"retry": "Retry", "drop": "Drop"}


class Operating:
    """Shows failures and the log to every viewer; changes failures for operators only."""

    def __init__(self, app: Flask, lookups: Lookups, acting: Actions | None) -> None:
        self._lookups = lookups
        self._acting = acting
        app.add_url_rule("/failures", "failures", self.failures)
        app.add_url_rule("/failures", "act_on_failures", self.act, methods=["POST"])
        app.add_url_rule("/actions", "actions", self.actions)
        app.add_url_rule("/actions/<int:number>", "action", self.action)

    def failures(self) -> Any:
        """List failures; the address holds the filter."""
        try:
            wanted = failures.parse(request.args)
            with self._lookups.cursor() as cursor:
                page = failures.page(cursor, wanted, request.args.get("before", ""))
                total, is_all = failures.count(cursor, wanted)
        except Unclear as error:
            html = render_template(
                "failures.html",
                view="failures",
                form=request.args,
                reasons=failures.REASONS,
                problem=str(error),
            )
            return html, HTTPStatus.BAD_REQUEST
        return render_template(
            "failures.html",
            view="failures",
            form=wanted.fields(),
            reasons=failures.REASONS,
            page=page,
            total=total,
            is_all=is_all,
            more=wanted.address(before=page.more) if page.more else None,
        )

    def act(self) -> Any:
        """Retry or drop the chosen or all matching failures, after confirmation where needed."""
        what = request.form.get("do", "")
        everything = request.values.get("which") == "all"
        acting = operators_only(self._acting)
        if what not in ACTS:
            raise BadRequest("choose what to do: do=retry or do=drop")
        try:
            wanted = failures.parse(request.form)
            chosen = None if everything else failures.parse_identities(request.form.getlist("id"))
        except Unclear as error:
            raise BadRequest(str(error)) from None
        if chosen == []:
            raise BadRequest("nothing was chosen")
        if request.form.get("sure") != "yes" and (what == "drop" or everything):
            counted, now = self._count(wanted) if chosen is None else ((len(chosen), True), "")
            return render_template(
                "confirm.html",
                view="failures",
                verb=ACTS[what],
                what=_described(*counted),
                final=what == "drop",
                note="They are never served or retried, and their messages are removed."
                if what == "drop"
                else "They are due at once, with their attempts reset.",
                chosen=[f"{client} {counter}" for client, counter in chosen or ()],
                filter=wanted.fields() if everything else {},
                # What fails after the question was not part of it.
                more={"until": now} if now and not wanted.until else {},
                back=f"{url_for('failures')}?{wanted.address()}".rstrip("?"),
            )
        expected = None if chosen is None else len(chosen)  # counted by the action itself
        selection = (
            wanted.fields()
            if chosen is None
            else [f"{client}/{counter}" for client, counter in chosen]
        )

        def work(progress: Progress) -> None:
            progress.change_failures(what, wanted, chosen)

        return start(acting, f"{what} failures", selection, expected, work)

    def _count(self, wanted: Filter) -> tuple[tuple[int, bool], str]:
        """Return how many match, whether that is all, and the time by the database's clock."""
        with self._lookups.cursor() as cursor:
            cursor.execute("SELECT UTC_TIMESTAMP(6)")
            [(now,)] = cursor.fetchall()
            return failures.count(cursor, wanted, COUNT_FOR), now.isoformat()

    def actions(self) -> str:
        """List the actions, latest first."""
        before = request.args.get("before", _LATEST, type=int)
        with self._lookups.cursor() as cursor:
            found = actions.latest(cursor, before)
        more = found[-1].id if len(found) == actions.PAGE else None
        return render_template("actions.html", view="actions", found=found, more=more)

    def action(self, number: int) -> str:
        """Show one action and its progress."""
        with self._lookups.cursor() as cursor:
            found = actions.one(cursor, number)
        if found is None:
            raise NotFound("there is no such action")
        return render_template("action.html", view="actions", action=found)


def _described(count: int, is_all: bool) -> str:
    failed = f"{count:,} failed request{'s' if count != 1 else ''}"
    return failed if is_all else f"all that match, at least {failed}"


def operators_only(acting: Actions | None) -> Actions:
    """Return ``acting`` if this session may use it. Raises Forbidden."""
    session: Session | None = g.session
    if acting is None:
        raise Forbidden("this page cannot act: it was started without --operator-token")
    if session is None or session.role is not Role.OPERATOR:
        raise Forbidden("only an operator may do this: log in with the operator's token")
    return acting


def start(
    acting: Actions,
    action: str,
    selection: object,
    expected: int | None,
    work: Callable[[Progress], None],
) -> Response:
    """Begin an action, and redirect to its view."""
    session: Session = g.session
    # A proxy may claim any address.
    address = (request.remote_addr or "").encode("ascii", "replace").decode()[:LONGEST_ADDRESS]
    who = (session.name or "operator", address)
    try:
        number = acting.begin(who, action, selection, expected, work)
    except TooMany as error:
        raise ServiceUnavailable(str(error)) from None
    return redirect(url_for("action", number=number), HTTPStatus.SEE_OTHER)
