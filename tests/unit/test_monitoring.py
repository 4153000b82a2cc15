"""The alert rules and the dashboard of Grafana: valid, and naming only what exists."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from lab.harness import tools
from lab.harness.servers import DEFAULT_FOLDER
from producer import metrics as of_producer
from producer.door.figures import Figures
from producer.door.pending import Pending
from producer.outbox import Outbox
from producer.relay import metrics as of_relay
from producer.relay.vitals import Vitals as RelayVitals
from tests.requirements import or_skip
from turnwise.database import parse_url
from turnwise.loop import Loop
from turnwise.outbox_status import OutboxStatus, QueueStatus
from worker import metrics as of_worker
from worker.vitals import Vitals

MONITORING = Path(__file__).parent.parent.parent / "monitoring"
GRAFANA = json.loads((MONITORING / "grafana.json").read_text())
QUERIES = [target["expr"] for panel in GRAFANA["panels"] for target in panel["targets"]]

# Of RabbitMQ's plugin rabbitmq_prometheus, at /metrics/per-object.
RABBITMQ = {
    "rabbitmq_queue_messages",
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "rabbitmq_unreachable_cluster_peers_count",
}


def promtool(*arguments: str | Path) -> None:
    program = or_skip(lambda: tools.promtool(DEFAULT_FOLDER / "tools"))
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def _door() -> Figures:
    with contextlib.closing(Loop()) as loop:
        figures = Figures(Pending(loop, limit=1))
    figures.answered(HTTPStatus.CREATED, 0.1)
    return figures


def _relay() -> Iterator[str]:
    figures = of_relay.Figures(parse_url("mysql://u@h/db"), "relay-1")
    figures.status = OutboxStatus("relay-1", 0.1, (QueueStatus("q", "c", 3, 1, 2, 0.5),))
    vitals = RelayVitals()
    vitals.stuck["q"] = "why"
    page = of_relay.pages(vitals, figures)["/metrics"]()[2].decode()
    yield from re.findall(r"^(turnwise_\w+)", page, re.MULTILINE)


def ours(tmp_path: Path) -> Iterator[str]:
    """The metrics that a worker and a producer serve, whatever they have counted so far."""
    vitals = Vitals()
    vitals.dead_lettered["invalid"] += 1
    vitals.lost["broker"] += 1
    yield from _relay()
    yield from re.findall(r"^(turnwise_\w+)", _door().exposition().decode(), re.MULTILINE)
    with Outbox(tmp_path / "outbox.db", "client") as outbox:
        for pages in (of_worker.pages(vitals), of_producer.pages(outbox)):
            yield from re.findall(r"^(turnwise_\w+)", pages["/metrics"]()[2].decode(), re.MULTILINE)


def test_the_rules_are_valid_and_alert_when_they_should() -> None:
    promtool("check", "rules", MONITORING / "alerts.yml")
    promtool("test", "rules", MONITORING / "alerts-test.yml")


def test_prometheus_understands_each_query_of_the_dashboard(tmp_path: Path) -> None:
    rules: dict[str, Any] = {
        "groups": [
            {
                "name": "queries",
                "rules": [
                    {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")}
                    for number, query in enumerate(QUERIES)
                ],
            }
        ]
    }
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps(rules))  # which is YAML as well
    promtool("check", "rules", path)


def test_only_metrics_are_named_that_exist(tmp_path: Path) -> None:
    text = "\n".join([*QUERIES, (MONITORING / "alerts.yml").read_text()])
    named = set(re.findall(r"\b(?:turnwise|rabbitmq)_\w+", text)) - {"rabbitmq_prometheus"}
    assert len(named) > 10
    assert named <= {*ours(tmp_path), *RABBITMQ}, named - {*ours(tmp_path), *RABBITMQ}


def test_each_metric_of_door_and_relay_has_a_panel(tmp_path: Path) -> None:
    text = "\n".join(QUERIES)
    served = {name for name in ours(tmp_path) if re.match("turnwise_(door|relay|outbox)_", name)}
    histogram = {f"turnwise_door_confirm_seconds_{part}" for part in ("count", "sum", "created")}
    unseen = {name for name in served - histogram if not re.search(rf"\b{name}\b", text)}
    assert not {name for name in unseen if not name.endswith("_created")}


def test_a_panel_counts_per_second_if_it_shows_rates() -> None:
    for panel in GRAFANA["panels"]:
        rates = [target["expr"] for target in panel["targets"] if "rate(" in target["expr"]]
        plain = [rate for rate in rates if "histogram_quantile" not in rate and " / " not in rate]
        per_second = panel["fieldConfig"]["defaults"]["unit"] == "reqps"
        assert per_second == bool(plain), panel["title"]


def test_every_panel_asks_the_source_that_the_viewer_chooses() -> None:
    [chosen] = GRAFANA["templating"]["list"]
    assert (chosen["name"], chosen["type"]) == ("datasource", "datasource")
    for panel in GRAFANA["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
