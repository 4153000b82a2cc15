"""The production overlay's custom resources: what their operators' schemas do not tell."""

from __future__ import annotations

import json
import runpy

import pytest

from tests.kubernetes.manifests import NAME, ROOT, Overlay
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
    for each in production.of("Vhost", "Queue", "Exchange", "Binding", "User", "Permission"):
        reference = each["spec"]["rabbitmqClusterReference"]
        assert reference == {"name": cluster["metadata"]["name"]}
    for each in production.of("Queue", "Exchange", "Binding", "Permission"):
        assert each["spec"]["vhost"] == vhost["spec"]["name"]


def test_accounts_may_what_they_may_in_docker(production: Overlay) -> None:
    told = json.loads((DOCKER / "rabbitmq" / "20-topology.json").read_text())["permissions"]
    rights = {
        right["user"]: {kind: right[kind] for kind in ("configure", "write", "read")}
        for right in told
        # The operator makes an administrator of its own.
        if right["user"] != "admin"
    }
    # It looks, as the page does.
    rights["keda"] = rights["dashboard"]
    assert {
        each["spec"]["userReference"]["name"]: each["spec"]["permissions"]
        for each in production.of("Permission")
    } == rights
    tags = runpy.run_path(str(DOCKER / "make_secrets.py"))["BROKER_TAGS"]
    tags["keda"] = tags["dashboard"]
    assert {each["metadata"]["name"]: each["spec"]["tags"] for each in production.of("User")} == {
        user: tags[user] for user in rights
    }


def test_a_majority_outlives_a_machine(production: Overlay) -> None:
    [cluster] = production.of("RabbitmqCluster")
    assert cluster["spec"]["replicas"] == 3
    [apart] = cluster["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert apart["labelSelector"]["matchLabels"] == {NAME: cluster["metadata"]["name"]}
    assert production.one("PodDisruptionBudget", "rabbitmq")["spec"]["maxUnavailable"] == 1


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
    assert metadata["protocol"] == "http", "by AMQP, what is in hand is not counted"
    assert metadata["excludeUnacknowledged"] == "false"
    assert metadata["queueName"] == TOPOLOGY.queue
    [vhost] = production.of("Vhost")
    assert metadata["vhostName"] == vhost["spec"]["name"]
    authentication = production.one("TriggerAuthentication", trigger["authenticationRef"]["name"])
    assert {each["parameter"] for each in authentication["spec"]["secretTargetRef"]} == {"host"}


def test_programs_are_given_the_authority_of_both_servers(production: Overlay) -> None:
    for name in ("worker", "door", "migrate", "dashboard"):
        pod = production.pod(name)
        [mount] = [each for each in pod.container["volumeMounts"] if each["name"] == "ca"]
        assert mount == {"name": "ca", "mountPath": "/run/secrets/ca", "readOnly": True}
        [volume] = [each for each in pod.spec["volumes"] if each["name"] == "ca"]
        assert volume["secret"]["secretName"] == "ca"
