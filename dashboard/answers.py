"""What a page is told, as JSON. Pure. docs/page.md describes each field."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from dashboard.board import Account, View
from dashboard.figures import Identity, Queue, Served
from dashboard.sight import Outage

CLIENTS = 100
"""Clients of whom the audit tells each; of the others it tells the sum."""


def state(view: View, after: int = 0) -> bytes:
    """Tell what changed after the sequence ``after``; all there is if that is none of ours."""
    if after > view.sequence:
        after = 0
    changed = [noted.value for noted in view.requests if noted.sequence > after]
    told: dict[str, Any] = {
        "sequence": view.sequence,
        "now": view.now,
        # All that is on the board is new: there may have been more in between.
        "skipped": bool(after and changed and len(changed) == len(view.requests)),
        "requests": [request(each) for each in changed],
        "replicas": _replicas(view),
        "queue": _figures(view.queue),
        "seconds": [
            {"at": at, "served": noted.value.served, "queue": _figures(noted.value.queue)}
            for at, noted in sorted(view.seconds.items())
            if noted.sequence > after
        ],
        "servers": {name: _server(outage) for name, outage in view.missing.items()},
        "outages": [
            {"server": name, **asdict(outage)}
            for name, outages in view.outages.items()
            for outage in outages
        ],
    }
    if view.audit and view.audit.sequence > after:
        told["audit"] = _audit(view.audit.value)
    return encode(told)


def one(identity: Identity, found: Served | None) -> bytes:
    """Tell of a request that somebody follows; None is not served."""
    if found is None:
        return encode({"client": identity[0], "counter": identity[1], "served": False})
    return encode({"served": True, **request(found)})


def request(served: Served) -> dict[str, Any]:
    """Tell of one request."""
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


def encode(told: object) -> bytes:
    """Return JSON in UTF-8."""
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _replicas(view: View) -> list[dict[str, Any]]:
    consuming = view.queue.replicas if view.queue and not view.missing.get("broker") else None
    totals = view.audit.value.audit.served_by if view.audit else {}
    return [
        {
            "name": name,
            "slot": slot,
            "consuming": None if consuming is None else name in consuming,
            "served": totals.get(name),
        }
        for name, slot in sorted(view.slots.items(), key=lambda item: item[1])
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


def _server(outage: Outage | None) -> dict[str, Any]:
    if outage is None:
        return {"seen": True}
    return {"seen": False, "since": outage.since, "problem": outage.problem}


def _audit(account: Account) -> dict[str, Any]:
    audit = account.audit
    # Those with a gap first: they are what somebody looks for.
    shown = sorted(audit.clients, key=lambda each: (each.holds, each.client))[:CLIENTS]
    return {
        "holds": audit.holds,
        "count": len(audit.clients),
        "served": sum(each.served for each in audit.clients),
        "missing": sum(each.missing for each in audit.clients),
        "repeated": sum(each.repeated for each in audit.clients),
        "clients": [
            {**asdict(each), "gap_since": account.gaps_since.get(each.client)} for each in shown
        ],
    }
