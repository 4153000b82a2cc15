"""The JSON answers to a page. Pure. docs/page.md describes each field."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from dashboard.board import Account, Noted, View
from dashboard.figures import Found, Identity, Queue, Served
from dashboard.sight import Outage
from turnwise.outbox_status import OutboxStatus

SKEW = 2.0
"""Seconds by which two processes may differ in when they see a change, besides their polling."""


def state(view: View, after: str = "") -> bytes:
    """Return what changed since the answer with the cursor ``after``; everything without one."""
    is_new = _since(view, after)
    changed = [noted.value for noted in view.requests if is_new(noted)]
    answer: dict[str, Any] = {
        "sequence": f"{view.complete:.6f}-{view.process}-{view.sequence}",
        "now": view.now,
        # All requests on the board are new, so there may have been more in between.
        "skipped": bool(after and changed and len(changed) == len(view.requests)),
        "requests": [request(each) for each in changed],
        "replicas": _replicas(view),
        "queue": _figures(view.queue),
        "warnings": list(view.queue.warnings) if view.queue else [],
        "failures": asdict(view.failures) if view.failures else None,
        "outbox": _outbox(view.outbox),
        "seconds": [
            {"at": at, "served": noted.value.served, "queue": _figures(noted.value.queue)}
            for at, noted in sorted(view.seconds.items())
            if is_new(noted)
        ],
        "servers": {name: _server(outage) for name, outage in view.missing.items()},
        "outages": [
            {"server": name, **asdict(outage)}
            for name, outages in view.outages.items()
            for outage in outages
        ],
    }
    if view.audit and is_new(view.audit):
        answer["audit"] = _audit(view.audit.value)
    return encode(answer)


def one(identity: Identity, found: Found) -> bytes:
    """Return the state of a request that a page follows."""
    if found.request is not None:
        return encode({"served": True, **request(found.request)})
    if found.removed:
        client, counter = identity
        return encode({"served": True, "removed": True, "client": client, "counter": counter})
    failure = found.failure
    answer: dict[str, Any] = {"client": identity[0], "counter": identity[1], "served": False}
    answer["known"] = found.known
    answer["failure"] = failure and {
        "attempts": failure.attempts,
        "reason": failure.reason,
        "error": failure.error,
        "due_at": failure.due_at.timestamp() if failure.due_at else None,
    }
    return encode(answer)


def request(served: Served) -> dict[str, Any]:
    """Return one served request as JSON fields."""
    return {
        "client": served.client,
        "counter": served.counter,
        "message": served.message,
        "size": served.size,
        "sent_at": served.sent_at.timestamp(),
        "served_at": served.served_at.timestamp(),
        "served_by": served.served_by,
        "deliveries": served.deliveries,
    }


def encode(answer: object) -> bytes:
    """Return JSON in UTF-8."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _since(view: View, after: str) -> Callable[[Noted[Any]], bool]:
    """Return a predicate for the values that are new to a page with this cursor."""
    complete, _, rest = after.partition("-")
    process, _, sequence = rest.partition("-")
    try:
        known_at, known = float(complete), int(sequence)
    except ValueError:
        return lambda _noted: True
    if process == view.process:
        return lambda noted: noted.sequence > known
    return lambda noted: noted.at >= known_at - SKEW


def _replicas(view: View) -> list[dict[str, Any]]:
    consuming = view.queue.replicas if view.queue and not view.missing.get("broker") else None
    totals = view.audit.value.audit.served_by if view.audit else {}
    return [
        {
            "name": name,
            "consuming": None if consuming is None else name in consuming,
            "served": totals.get(name),
        }
        for name in sorted(view.replicas)
    ]


def _figures(queue: Queue | None) -> dict[str, int] | None:
    if queue is None:
        return None
    return {
        "ready": queue.ready,
        "in_hand": queue.in_hand,
        "consumers": queue.consumers,
        "dead": queue.dead,
    }


def _outbox(status: OutboxStatus | None) -> dict[str, Any] | None:
    if status is None:
        return None
    return {
        "used": bool(status.relay or status.queues),
        "waiting": status.waiting,
        "oldest_seconds": status.oldest_seconds,
        "relay": status.relay,
        "seen_seconds": status.seen_seconds,
    }


def _server(outage: Outage | None) -> dict[str, Any]:
    if outage is None:
        return {"seen": True}
    return {"seen": False, "since": outage.since, "problem": outage.problem}


def _audit(account: Account) -> dict[str, Any]:
    audit = account.audit
    return {
        "holds": audit.holds,
        "count": audit.count,
        "served": audit.served,
        "missing": audit.missing,
        "failed": audit.failed,
        "repeated": audit.repeated,
        "clients": [
            {**asdict(line), "gap_since": account.gaps_since.get(line.client)}
            for line in audit.lines
        ],
    }
