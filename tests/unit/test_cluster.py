"""What is wrong with a cluster."""

from __future__ import annotations

from typing import Any

from turnwise.cluster import warnings

ALL = ["a", "b", "c"]


def node(name: str, *, running: bool = True, partitions: list[str] | None = None) -> dict[str, Any]:
    return {"name": name, "running": running, "partitions": partitions or []}


def queue(members: list[str], online: list[str] | None = None) -> dict[str, Any]:
    online = members if online is None else online
    return {"name": "requests", "type": "quorum", "members": members, "online": online}


NODES = [node(name) for name in ALL]


def test_a_complete_cluster_gives_no_warning() -> None:
    assert list(warnings(NODES, [queue(ALL)])) == []
    assert list(warnings([node("a")], [queue(["a"])])) == []
    # A classic queue has no members; and right after a start there are no figures.
    assert list(warnings(NODES, [{"name": "x", "type": "classic"}, {"name": "y"}])) == []


def test_a_missing_member_is_reported_with_its_remedy() -> None:
    [said] = warnings(NODES, [queue(["a", "b"])])
    assert "has 2 of 3 members, none at c: rabbitmq-queues grow c all" in said


def test_a_node_that_is_down_is_not_asked_to_grow() -> None:
    said = list(warnings([*NODES[:2], node("c", running=False)], [queue(ALL, ["a", "b"])]))
    assert len(said) == 1
    assert "node c is down" in said[0]


def test_a_partition_is_reported() -> None:
    said = list(warnings([node("a", partitions=["c", "b"]), *NODES[1:]], [queue(ALL)]))
    assert len(said) == 1
    assert "a does not see b, c" in said[0]


def test_a_lagging_member_is_reported() -> None:
    [said] = warnings(NODES, [queue(ALL, ["a", "b"])])
    assert "at c is not online" in said
