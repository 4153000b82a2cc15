"""The connections between pods that the NetworkPolicies allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.kubernetes.manifests import NAME, Overlay

ANYWHERE = "anywhere"

Arrow = tuple[str, str, str]
"""From, to, port. Each end is the name of a pod, or a description of anything else."""


def arrows(overlay: Overlay) -> set[Arrow]:
    """Return the connections that are allowed at both ends, or at the only end with policies here.

    Assumes that everything else is denied (the policy ``default-deny``).
    """
    pods = overlay.pod_names()
    out, into = set(_half(overlay, "egress")), set(_half(overlay, "ingress"))
    inside = {a for a in out & into if {a[0], a[1]} <= pods}
    return inside | {a for a in out if a[1] not in pods} | {a for a in into if a[0] not in pods}


def half_open(overlay: Overlay) -> set[Arrow]:
    """Return the connections between pods that one end allows and the other forbids."""
    pods = overlay.pod_names()
    differ = set(_half(overlay, "egress")) ^ set(_half(overlay, "ingress"))
    return {arrow for arrow in differ if {arrow[0], arrow[1]} <= pods}


def _half(overlay: Overlay, direction: str) -> Iterator[Arrow]:
    peers = "to" if direction == "egress" else "from"
    for policy in overlay.of("NetworkPolicy"):
        for rule in policy["spec"].get(direction, []):
            for peer in rule.get(peers, [{}]):
                for port in rule["ports"]:
                    for pod in _selected(overlay, policy):
                        ends = (pod, _end(peer)) if direction == "egress" else (_end(peer), pod)
                        yield (*ends, _port(port))


def _selected(overlay: Overlay, policy: dict[str, Any]) -> set[str]:
    labels = policy["spec"]["podSelector"].get("matchLabels")
    return {labels[NAME]} if labels else overlay.pod_names()


def _end(peer: dict[str, Any]) -> str:
    if not peer:
        return ANYWHERE
    words = []
    if "podSelector" in peer:
        words += peer["podSelector"]["matchLabels"].values()
    if "namespaceSelector" in peer:
        [(label, value)] = peer["namespaceSelector"]["matchLabels"].items()
        words += ["in", value if label == "kubernetes.io/metadata.name" else f"{label}={value}"]
    if "ipBlock" in peer:
        words += [peer["ipBlock"]["cidr"]]
    return " ".join(words)


def _port(port: dict[str, Any]) -> str:
    last = f"-{port['endPort']}" if "endPort" in port else ""
    kind = "/udp" if port.get("protocol") == "UDP" else ""
    return f"{port['port']}{last}{kind}"
