"""The production overlay's custom resources: what their operators' schemas cannot check."""

from __future__ import annotations

import json
import re
import runpy

import pytest

from tests.kubernetes.manifests import NAME, ROOT, Overlay
from tests.kubernetes.network import arrows
from turnwise.topology import Topology

TOPOLOGY = Topology()
DOCKER = ROOT / "docker"


@pytest.fixture
def production(overlays: dict[str, Overlay]) -> Overlay:
    return overlays["production"]


def test_queues_are_those_that_the_code_declares(production: Overlay) -> None:
    queues = [each["spec"] for each in production.of("Queue")]
    assert {
        queue["name"]: {"x-queue-type": queue["type"], **queue["arguments"]} for queue in queues
    } == {
        TOPOLOGY.queue: TOPOLOGY.queue_arguments,
        TOPOLOGY.dead: TOPOLOGY.dead_arguments,
    }
    assert all(queue["durable"] and queue["deletionPolicy"] == "retain" for queue in queues)


def test_exchanges_and_bindings_are_those_that_the_code_declares(production: Overlay) -> None:
    exchanges = [each["spec"] for each in production.of("Exchange")]
    assert {(each["name"], each["type"], each["durable"]) for each in exchanges} == {
        (TOPOLOGY.exchange, "direct", True),
        (TOPOLOGY.dead, "direct", True),
    }
    bindings = [each["spec"] for each in production.of("Binding")]
    assert {
        (each["source"], each["routingKey"], each["destinationType"], each["destination"])
        for each in bindings
    } == {
        (TOPOLOGY.exchange, TOPOLOGY.queue, "queue", TOPOLOGY.queue),
        (TOPOLOGY.dead, TOPOLOGY.dead, "queue", TOPOLOGY.dead),
    }


def test_all_of_it_is_in_one_virtual_host_of_one_cluster(production: Overlay) -> None:
    [cluster] = production.of("RabbitmqCluster")
    [vhost] = production.of("Vhost")
    assert vhost["spec"]["deletionPolicy"] == "retain"
    kinds = ("Vhost", "Queue", "Exchange", "Binding", "User", "Permission")
    for each in production.of_group("rabbitmq.com", *kinds):
        reference = each["spec"]["rabbitmqClusterReference"]
        assert reference == {"name": cluster["metadata"]["name"]}
    for each in production.of("Queue", "Exchange", "Binding", "Permission"):
        assert each["spec"]["vhost"] == vhost["spec"]["name"]


def test_broker_accounts_have_the_same_rights_as_in_docker(
    production: Overlay,
) -> None:
    rights = json.loads((DOCKER / "rabbitmq" / "20-topology.json").read_text())["permissions"]
    rights = {
        right["user"]: {kind: right[kind] for kind in ("configure", "write", "read")}
        for right in rights
        # The operator creates its own administrator.
        if right["user"] != "admin"
    }
    # KEDA only reads, like the page.
    rights["keda"] = rights["dashboard"]
    assert {
        each["spec"]["userReference"]["name"]: each["spec"]["permissions"]
        for each in production.of("Permission")
    } == rights
    tags = runpy.run_path(str(DOCKER / "make_secrets.py"))["BROKER_TAGS"]
    tags["keda"] = tags["dashboard"]
    users = production.of_group("rabbitmq.com", "User")
    assert {each["metadata"]["name"]: each["spec"]["tags"] for each in users} == {
        user: tags[user] for user in rights
    }


def test_a_majority_survives_the_loss_of_a_machine(production: Overlay) -> None:
    [cluster] = production.of("RabbitmqCluster")
    assert cluster["spec"]["replicas"] == 3
    [apart] = cluster["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert apart["labelSelector"]["matchLabels"] == {NAME: cluster["metadata"]["name"]}
    assert production.one("PodDisruptionBudget", "rabbitmq")["spec"]["maxUnavailable"] == 1
    [database] = production.of("MariaDB")
    spec = database["spec"]
    assert spec["replicas"] == 3
    assert spec["galera"]["enabled"] is True
    assert spec["affinity"]["antiAffinityEnabled"] is True
    assert spec["podDisruptionBudget"] == {"maxUnavailable": 1}
    assert "innodb_flush_log_at_trx_commit = 1\n" in spec["myCnf"]


def test_no_connection_is_unencrypted(production: Overlay) -> None:
    [cluster] = production.of("RabbitmqCluster")
    assert cluster["spec"]["tls"]["disableNonTLSListeners"] is True
    [database] = production.of("MariaDB")
    assert database["spec"]["tls"] == {"enabled": True, "required": True}
    plain = {"5672", "15672", "15692"}
    assert not plain & {port for _, _, port in arrows(production)}
    for ingress in production.of("Ingress"):
        assert ingress["spec"]["tls"]


def test_a_blank_node_is_not_reached_before_it_has_joined(production: Overlay) -> None:
    [cluster] = production.of("RabbitmqCluster")
    name, spec = cluster["metadata"]["name"], cluster["spec"]
    options = dict(
        line.split(" = ")
        for line in spec["rabbitmq"]["additionalConfig"].splitlines()
        if line and not line.startswith("#")
    )
    assert options["cluster_formation.peer_discovery_backend"] == "classic_config"
    listed = [
        value
        for option, value in options.items()
        if option.startswith("cluster_formation.classic_config.nodes.")
    ]
    # The names that the operator gives to the nodes.
    assert listed == [
        f"rabbit@{name}-server-{number}.{name}-nodes.turnwise" for number in range(spec["replicas"])
    ]
    [container] = spec["override"]["statefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "rabbitmq"
    probe = container["startupProbe"]
    assert probe["httpGet"]["path"] == "/api/health/checks/reached-target-cluster-size"
    # DNS lists only ready nodes, each with its own address.
    [service] = [s for s in production.of("Service") if s["metadata"]["name"] == "rabbitmq-each"]
    assert service["spec"]["clusterIP"] == "None"
    assert "publishNotReadyAddresses" not in service["spec"]
    assert service["spec"]["selector"] == {NAME: name}


def _rights_of_docker() -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    statement = r"^(GRANT|REVOKE) ([A-Z, ]+) ON counter_db\.(\S+) (?:TO|FROM) '(\w+)'@'%';$"
    text = (DOCKER / "mysql" / "20-rights.sql").read_text()
    for verb, rights, table, account in re.findall(statement, text, re.MULTILINE):
        held = found.setdefault((account, table), set())
        named = {right.replace("ALL", "ALL PRIVILEGES") for right in rights.split(", ")}
        found[account, table] = held | named if verb == "GRANT" else held - named
    assert len(found) > 8
    return found


def test_database_accounts_have_the_same_rights_as_in_docker(
    production: Overlay,
) -> None:
    grants = [each["spec"] for each in production.of("Grant")]
    assert {
        (each["username"], each["table"]): set(each["privileges"]) for each in grants
    } == _rights_of_docker()
    assert all(each["database"] == "counter_db" and each["host"] == "%" for each in grants)
    users = production.of_group("k8s.mariadb.com", "User")
    made = runpy.run_path(str(DOCKER / "make_secrets.py"))["DATABASE_USERS"]
    assert {each["spec"]["name"] for each in users} == set(made)
    assert all(each["spec"]["host"] == "%" for each in users)


def test_deleting_an_object_deletes_nothing_in_the_database(production: Overlay) -> None:
    [database] = production.of("Database")
    assert database["spec"]["name"] == "counter_db"
    kinds = ("Database", "User", "Grant")
    for each in production.of_group("k8s.mariadb.com", *kinds):
        assert each["spec"]["cleanupPolicy"] == "Skip"
        assert each["spec"]["mariaDbRef"] == {"name": "mariadb"}


def test_autoscaling_avoids_its_traps(production: Overlay) -> None:
    [scaled] = production.of("ScaledObject")
    spec = scaled["spec"]
    target = production.one("Deployment", spec["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"], "each 'kubectl apply' would undo what KEDA did"
    assert spec["minReplicaCount"] >= 2, "two share the turn, also when nothing waits"
    assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    grace = target["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert down["stabilizationWindowSeconds"] > grace
    assert [policy["periodSeconds"] > grace for policy in down["policies"]] == [True]
    [trigger] = spec["triggers"]
    metadata = trigger["metadata"]
    assert metadata["protocol"] == "http", "over AMQP, unacked messages are not counted"
    assert metadata["excludeUnacknowledged"] == "false"
    assert metadata["queueName"] == TOPOLOGY.queue
    [vhost] = production.of("Vhost")
    assert metadata["vhostName"] == vhost["spec"]["name"]
    authentication = production.one("TriggerAuthentication", trigger["authenticationRef"]["name"])
    parameters = {each["parameter"] for each in authentication["spec"]["secretTargetRef"]}
    assert parameters == {"host", "tls", "ca"}


@pytest.mark.parametrize(
    ("volume", "secret", "programs"),
    [
        ("ca", "ca", ("worker", "door", "relay", "dashboard")),
        ("database-ca", "mariadb-ca-bundle", ("worker", "relay", "migrate", "dashboard")),
    ],
)
def test_programs_get_the_certificate_authorities_of_their_servers(
    production: Overlay, volume: str, secret: str, programs: tuple[str, ...]
) -> None:
    for name in programs:
        pod = production.pod(name)
        [mount] = [each for each in pod.container["volumeMounts"] if each["name"] == volume]
        assert mount["mountPath"] == f"/run/secrets/{volume}"
        [found] = [each for each in pod.spec["volumes"] if each["name"] == volume]
        assert found["secret"]["secretName"] == secret
