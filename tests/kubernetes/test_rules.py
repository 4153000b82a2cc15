"""Rules for every object of every overlay. Pure except for 'kubectl kustomize'."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kubernetes_validate import utils as schemas

from tests.kubernetes.manifests import K8S, NAME, ROOT, Overlay, Pod
from tests.kubernetes.network import ANYWHERE, arrows, half_open
from turnwise import __version__

# The oldest supported release, and the newest whose schemas are available.
KUBERNETES = ("1.31", schemas.latest_version())

CUSTOM = {"rabbitmq.com/v1beta1", "keda.sh/v1alpha1", "k8s.mariadb.com/v1alpha1"}
"""Custom resources, whose schemas belong to their operators; test_production.py checks these."""


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(overlay: Overlay, version: str) -> None:
    checked = 0
    for each in overlay.objects:
        if each["apiVersion"] not in CUSTOM:
            schemas.validate(each, version, strict=True)
            checked += 1
    assert checked > 15


def test_an_unknown_field_is_detected(overlay: Overlay) -> None:
    worker = overlay.one("Deployment", "worker")
    broken = {**worker, "spec": {**worker["spec"], "replica": 2}}
    with pytest.raises(schemas.ValidationError, match="replica"):
        schemas.validate(broken, KUBERNETES[0], strict=True)


def test_pods_are_locked_down(overlay: Overlay) -> None:
    """They meet the standard 'restricted', and have a read-only root file system."""
    namespace = overlay.one("Namespace", "turnwise")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in overlay.pods():
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod.spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.spec.keys()
        kinds = {
            kind for volume in pod.spec.get("volumes", []) for kind in volume if kind != "name"
        }
        assert kinds <= {"secret", "configMap", "emptyDir"}


def test_no_variable_is_derived_from_a_services_name(overlay: Overlay) -> None:
    """Otherwise DASHBOARD_PORT would be tcp://..., for the Service 'dashboard'."""
    assert all(pod.spec["enableServiceLinks"] is False for pod in overlay.pods())


def test_pods_have_requests_and_limits(overlay: Overlay) -> None:
    for pod in overlay.pods():
        resources = pod.container["resources"]
        assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}


def test_long_running_pods_have_probes(overlay: Overlay) -> None:
    for pod in overlay.pods():
        probes = [pod.container.get(kind) for kind in ("livenessProbe", "readinessProbe")]
        assert all(probes) == pod.serves, pod.name
        for probe in filter(None, probes):
            [port] = [
                probe[how].get("port") for how in ("httpGet", "tcpSocket") if how in probe
            ] or [next(iter(pod.ports))]
            assert port in pod.ports, pod.name


def test_images_name_a_release(overlay: Overlay) -> None:
    images = [pod.container["image"] for pod in overlay.pods()]
    images += [each["spec"]["image"] for each in overlay.of("RabbitmqCluster", "MariaDB")]
    for image in images:
        name, _, tag = image.rpartition(":")
        assert name, image
        assert tag != "latest", image
        assert re.match(r"\d+\.\d+", tag), image
        if name.endswith("turnwise"):
            assert tag == __version__


def test_everything_is_labelled(overlay: Overlay) -> None:
    for each in overlay.objects:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "turnwise"
        if each["kind"] not in {"Namespace", "PriorityClass"}:
            assert each["metadata"]["namespace"] == "turnwise"
    for pod in overlay.pods():
        assert pod.labels["app.kubernetes.io/part-of"] == "turnwise"
        assert pod.owner["metadata"]["labels"][NAME] == pod.name
        selector = pod.owner["spec"].get("selector", {"matchLabels": {NAME: pod.name}})
        assert selector["matchLabels"] == {NAME: pod.name}


def test_services_and_budgets_select_pods(overlay: Overlay) -> None:
    for service in overlay.of("Service"):
        name = service["spec"]["selector"][NAME]
        if name in {cluster["metadata"]["name"] for cluster in overlay.of("RabbitmqCluster")}:
            continue  # its pods belong to the operator
        pod = overlay.pod(name)
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in pod.ports
    for budget in overlay.of("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"][NAME] in overlay.pod_names()
        assert budget["spec"]["maxUnavailable"] == 1
    for workload in overlay.of("StatefulSet"):
        assert overlay.one("Service", workload["spec"]["serviceName"])


def test_ingresses_point_to_services(overlay: Overlay) -> None:
    ports = {
        (service["metadata"]["name"], port["name"])
        for service in overlay.of("Service")
        for port in service["spec"]["ports"]
    }
    backends = [
        path["backend"]["service"]
        for ingress in overlay.of("Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    found = {(each["name"], each["port"]["name"]) for each in backends}
    # In production RabbitMQ's management UI is not exposed.
    published = {("door", "http"), ("dashboard", "http")}
    assert found - {("rabbitmq", "management")} == published
    assert found == published or not overlay.of("RabbitmqCluster")
    assert found <= ports


def test_no_ingress_controller_is_named(overlays: dict[str, Overlay]) -> None:
    for ingress in overlays["local"].of("Ingress"):
        assert "ingressClassName" not in ingress["spec"], "the cluster's default"
    for ingress in overlays["production"].of("Ingress"):
        assert ingress["spec"]["ingressClassName"] == "example", "one to set"
    for file in [*K8S.rglob("*.yaml"), ROOT / "docs" / "kubernetes.md"]:
        assert "nginx" not in file.read_text(), file


def test_only_requests_are_routed_to_the_door(overlay: Overlay) -> None:
    """Neither metrics nor probes are routed, since they require no token."""
    [rule] = overlay.one("Ingress", "door")["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/requests", "Prefix")


def test_gateway_api_routes_match_the_ingresses(overlays: dict[str, Overlay]) -> None:
    gateway = overlays["gateway"]
    assert not gateway.of("Ingress")
    routed = set()
    for route in gateway.of("HTTPRoute"):
        assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
        assert route["metadata"]["namespace"] == "turnwise"
        assert route["spec"]["parentRefs"] == [{"name": "gateway", "namespace": "gateway"}]
        [host] = route["spec"]["hostnames"]
        [rule] = route["spec"]["rules"]
        [match], [backend] = rule["matches"], rule["backendRefs"]
        assert match["path"]["type"] == "PathPrefix"
        routed.add((host, match["path"]["value"], backend["name"]))
        services = [s for s in gateway.of("Service") if s["metadata"]["name"] == backend["name"]]
        ports = [port["port"] for service in services for port in service["spec"]["ports"]]
        assert backend["port"] in ports
    assert routed == {
        (rule["host"], path["path"], path["backend"]["service"]["name"])
        for ingress in overlays["production"].of("Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }


def test_nothing_secret_is_in_the_repository() -> None:
    made = K8S / "local" / "secrets"
    files = [path for path in K8S.rglob("*") if path.is_file() and made not in path.parents]
    assert files
    for file in files:
        assert not re.search(r"://[^\s/@]+:[^\s/@]+@", file.read_text()), file
        assert "kind: Secret\n" not in file.read_text(), file


def test_no_variable_holds_a_secret(overlay: Overlay) -> None:
    """A password in a variable is visible to anyone who may read the pod; a file is not."""
    for pod in overlay.pods():
        for variable in pod.container.get("env", []):
            assert "secretKeyRef" not in variable.get("valueFrom", {}), variable
            if re.search("PASSWORD|TOKEN|_URL", variable["name"]):
                assert variable["name"].endswith("_FILE"), variable
        assert all("secretRef" not in source for source in pod.container.get("envFrom", []))


def test_everything_that_pods_refer_to_exists(overlay: Overlay) -> None:
    maps = {each["metadata"]["name"]: each["data"] for each in overlay.of("ConfigMap")}
    for pod in overlay.pods():
        volumes = pod.spec.get("volumes", [])
        mounts = {mount["name"] for mount in pod.container.get("volumeMounts", [])}
        claims = pod.owner["spec"].get("volumeClaimTemplates", [])
        assert mounts == {
            *(volume["name"] for volume in volumes),
            *(claim["metadata"]["name"] for claim in claims),
        }
        for source in pod.container.get("envFrom", []):
            assert source["configMapRef"]["name"] in maps
        for volume in volumes:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
            for mount in pod.container["volumeMounts"]:
                if mount["name"] == volume["name"] and "configMap" in volume:
                    assert mount["subPath"] in maps[volume["configMap"]["name"]]
        if "priorityClassName" in pod.spec:
            assert overlay.one("PriorityClass", pod.spec["priorityClassName"])


def _everywhere(pods: list[Pod], end: str, ports: tuple[str, ...]) -> set[tuple[str, str, str]]:
    return {(pod.name, end, port) for pod in pods for port in ports}


def test_pods_may_only_connect_as_the_design_allows(overlays: dict[str, Overlay]) -> None:
    local, production = overlays["local"], overlays["production"]
    names = ("53", "53/udp")
    controller = "in turnwise/ingress=true"
    page = (controller, "dashboard", "8080")
    management = (controller, "rabbitmq", "15672")
    door = (controller, "door", "8000")
    assert arrows(local) == {
        ("producer", "rabbitmq", "5672"),
        ("door", "rabbitmq", "5672"),
        ("relay", "rabbitmq", "5672"),
        ("relay", "mysql", "3306"),
        (ANYWHERE, "door", "8000"),
        door,
        ("worker", "rabbitmq", "5672"),
        ("worker", "mysql", "3306"),
        ("migrate", "mysql", "3306"),
        ("dashboard", "mysql", "3306"),
        ("dashboard", "rabbitmq", "5672"),
        ("dashboard", "rabbitmq", "15672"),
        (ANYWHERE, "dashboard", "8080"),
        page,
        management,
    } | _everywhere(local.pods(), "kube-dns in kube-system", names)
    assert arrows(production) == {
        ("worker", "rabbitmq", "5671"),
        ("door", "rabbitmq", "5671"),
        ("relay", "rabbitmq", "5671"),
        ("relay", "mariadb", "3306"),
        door,
        ("worker", "mariadb", "3306"),
        ("migrate", "mariadb", "3306"),
        ("dashboard", "mariadb", "3306"),
        ("dashboard", "rabbitmq", "5671"),
        ("dashboard", "rabbitmq", "15671"),
        ("rabbitmq", "rabbitmq", "4369"),
        ("rabbitmq", "rabbitmq", "25672"),
        ("rabbitmq", "rabbitmq", "35672-35682"),
        ("in turnwise/producer=true", "rabbitmq", "5671"),
        ("in rabbitmq-system", "rabbitmq", "15671"),
        ("in keda", "rabbitmq", "15671"),
        ("in monitoring", "worker", "9090"),
        ("in monitoring", "door", "8000"),
        ("in monitoring", "relay", "9090"),
        ("in monitoring", "rabbitmq", "15691"),
        ("mariadb", "mariadb", "4444"),
        ("mariadb", "mariadb", "4567"),
        ("mariadb", "mariadb", "4568"),
        ("mariadb", "10.96.0.1/32", "443"),
        ("in turnwise/application=true", "mariadb", "3306"),
        ("in mariadb-system", "mariadb", "3306"),
        ("in mariadb-system", "mariadb", "5555"),
        ("in mariadb-system", "mariadb", "5566"),
        page,
    } | {(pod, "kube-dns in kube-system", port) for pod in production.pod_names() for port in names}


def test_connections_allowed_at_one_end_are_allowed_at_the_other(overlay: Overlay) -> None:
    assert not half_open(overlay)


def test_policies_name_only_open_ports(overlays: dict[str, Overlay]) -> None:
    pods = {pod.name: pod for pod in overlays["local"].pods()}
    for _, end, port in arrows(overlays["local"]):
        if end in pods:
            assert int(port) in pods[end].ports.values()


def test_all_other_connections_are_denied(overlay: Overlay) -> None:
    closed = overlay.one("NetworkPolicy", "default-deny")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def as_bytes(quantity: str) -> int:
    """Return the bytes in a quantity of Kubernetes or RabbitMQ."""
    units: dict[str, int] = {"Mi": 2**20, "Gi": 2**30, "MB": 10**6, "GB": 10**9}
    [(number, unit)] = re.findall(r"^(\d+)([A-Za-z]+)$", quantity)
    return int(number) * units[unit]


def _rabbitmq(overlay: Overlay) -> tuple[str, dict[str, Any], str]:
    """Return RabbitMQ's configuration, its resources and the size of its disk."""
    for cluster in overlay.of("RabbitmqCluster"):
        spec = cluster["spec"]
        return (
            spec["rabbitmq"]["additionalConfig"],
            spec["resources"],
            spec["persistence"]["storage"],
        )
    pod = overlay.pod("rabbitmq")
    [claim] = pod.owner["spec"]["volumeClaimTemplates"]
    [configuration] = [
        each["data"]["rabbitmq.conf"]
        for each in overlay.of("ConfigMap")
        if "rabbitmq.conf" in each["data"]
    ]
    storage = claim["spec"]["resources"]["requests"]["storage"]
    return configuration, pod.container["resources"], storage


def test_rabbitmq_blocks_publishers_before_it_is_out_of_memory_or_disk(overlay: Overlay) -> None:
    configuration, resources, storage = _rabbitmq(overlay)
    options = dict(re.findall(r"^([a-z_.]+) = (\S+)$", configuration, re.MULTILINE))
    memory = as_bytes(options["vm_memory_high_watermark.absolute"])
    assert memory < 0.7 * as_bytes(resources["limits"]["memory"])
    assert as_bytes(options["disk_free_limit.absolute"]) < 0.5 * as_bytes(storage)
