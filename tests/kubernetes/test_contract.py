"""Compares k8s/ with the code and with docker/, where it repeats them."""

from __future__ import annotations

import importlib
import re

import click
import pytest

from producer.commands.serve import DEFAULT_TIMEOUT
from producer.door.door import STOP_MARGIN
from producer.relay.relay import STOP_BUDGET
from producer.report import STOP_GRACE
from tests.kubernetes.manifests import K8S, ROOT, Overlay, Pod
from turnwise import parameters
from turnwise.topology import DEFAULT_QUEUE
from worker.metrics import pages
from worker.replica import SHUTDOWN_BUDGET
from worker.vitals import Vitals

PROGRAMS = ("producer", "worker", "dashboard")


def _programs(overlay: Overlay) -> list[tuple[Pod, click.Command]]:
    """Return the project's own pods, each with the command that it runs."""
    found = []
    for pod in overlay.pods():
        program, *arguments = pod.container.get("command", [None])
        if program not in PROGRAMS:
            continue
        command: click.Command | None = importlib.import_module(f"{program}.cli").main
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), arguments[0])
        assert command is not None, pod.name
        found.append((pod, command))
    assert {"worker", "migrate", "dashboard"} <= {pod.name for pod, _ in found}
    return found


def _variables(command: click.Command) -> set[str]:
    """Return the environment variables that a command reads."""
    options = [each for each in command.params if isinstance(each.envvar, str)]
    files = [each for each in options if isinstance(each, parameters.SecretOption)]
    return {str(each.envvar) for each in options} | {f"{each.envvar}_FILE" for each in files}


def test_variables_are_those_the_commands_read(overlay: Overlay) -> None:
    shared = set(overlay.configuration())
    read = set()
    for pod, command in _programs(overlay):
        given = {variable["name"] for variable in pod.container.get("env", [])}
        # This one is OpenSSL's, for the page's requests to the management API.
        assert given - {"SSL_CERT_FILE"} <= _variables(command), pod.name
        read |= _variables(command)
        wanted = {each.envvar for each in command.params if each.required and each.envvar}
        assert wanted <= {name.removesuffix("_FILE") for name in given}, pod.name
    assert shared <= read


def test_options_are_those_the_commands_have(overlay: Overlay) -> None:
    for pod, command in _programs(overlay):
        known = {name for each in command.params for name in each.opts}
        options = [word for word in pod.container["command"] if word.startswith("--")]
        assert {option.partition("=")[0] for option in options} <= known


def test_values_are_accepted_by_the_commands(overlay: Overlay) -> None:
    for pod, command in _programs(overlay):
        given = {each["name"]: each.get("value") for each in pod.container.get("env", [])}
        given = {**overlay.configuration(), **given}
        context = click.Context(command)
        for each in command.params:
            value = given.get(str(each.envvar))
            if value is not None:
                each.process_value(context, value)


def test_a_replica_is_named_after_its_pod(overlay: Overlay) -> None:
    for pod, variable in (("worker", "WORKER_NAME"), ("relay", "RELAY_NAME")):
        [name] = [each for each in overlay.pod(pod).container["env"] if each["name"] == variable]
        assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_workers_run_a_handler_if_a_users_overlay_sets_it(
    overlays: dict[str, Overlay],
) -> None:
    plain, with_handler = overlays["production"], overlays["handler"]
    assert with_handler.configuration() == plain.configuration() | {
        "WORKER_HANDLER": "orders:serve"
    }
    assert with_handler.pod("worker").container["image"] == "registry.example.com/orders:1"
    assert {
        each["configMapRef"]["name"] for each in with_handler.pod("worker").container["envFrom"]
    } == {
        each["metadata"]["name"]
        for each in with_handler.of("ConfigMap")
        if each["metadata"]["name"].startswith("turnwise-")
    }


def test_a_pod_is_given_the_time_to_finish(overlays: dict[str, Overlay]) -> None:
    for overlay in overlays.values():
        worker = overlay.pod("worker")
        assert worker.spec["terminationGracePeriodSeconds"] > SHUTDOWN_BUDGET
        assert overlay.pod("relay").spec["terminationGracePeriodSeconds"] > STOP_BUDGET
        # A preStop hook would count towards the grace period.
        assert "lifecycle" not in worker.container
        door = overlay.pod("door")
        pause = door.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        budget = pause + DEFAULT_TIMEOUT + STOP_MARGIN
        assert door.spec["terminationGracePeriodSeconds"] > budget
    producer = overlays["local"].pod("producer")
    budget = STOP_GRACE
    assert producer.spec["terminationGracePeriodSeconds"] > budget


def test_a_workers_probes_use_paths_that_it_serves(overlay: Overlay) -> None:
    worker = overlay.pod("worker").container
    assert worker["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "/readyz" in pages(Vitals())  # /healthz is the status server's own
    [address] = [each["value"] for each in worker["env"] if each["name"] == "WORKER_HTTP"]
    assert address == f"0.0.0.0:{overlay.pod('worker').ports['http']}"


def test_probes_and_services_use_the_listening_port(overlays: dict[str, Overlay]) -> None:
    dashboard = overlays["local"].pod("dashboard")
    [port] = [
        each["value"] for each in dashboard.container["env"] if each["name"] == "DASHBOARD_PORT"
    ]
    assert dashboard.ports == {"http": int(port)}
    for overlay in overlays.values():
        door = overlay.pod("door")
        [address] = [
            each["value"] for each in door.container["env"] if each["name"] == "PRODUCER_HTTP"
        ]
        assert address == f"0.0.0.0:{door.ports['http']}"
    producer = overlays["local"].pod("producer")
    assert f"--http=0.0.0.0:{producer.ports['http']}" in producer.container["command"]


def test_the_queue_is_that_of_the_code(overlay: Overlay) -> None:
    assert overlay.configuration()["TURNWISE_QUEUE"] == DEFAULT_QUEUE


def test_every_secret_of_the_local_overlay_is_generated(overlays: dict[str, Overlay]) -> None:
    made = {
        (each["metadata"]["name"], key)
        for each in overlays["local"].of("Secret")
        for key in each["data"]
    }
    used = {key for pod in overlays["local"].pods() for key in pod.secret_keys()}
    assert used == made


def _table(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading of docs/kubernetes.md."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_secret_of_the_production_overlay_is_documented(
    overlays: dict[str, Overlay],
) -> None:
    production = overlays["production"]
    used = {key for pod in production.pods() for key in pod.secret_keys()}
    # The programs' URLs name this file.
    used |= {("ca", "ca.crt")}
    for user in production.of_group("rabbitmq.com", "User"):
        name = user["spec"]["importCredentialsSecret"]["name"]
        used |= {(name, "username"), (name, "password")}
    keys = [each["spec"]["rootPasswordSecretKeyRef"] for each in production.of("MariaDB")]
    users = production.of_group("k8s.mariadb.com", "User")
    keys += [each["spec"]["passwordSecretKeyRef"] for each in users]
    used |= {(each["name"], each["key"]) for each in keys}
    for authentication in production.of("TriggerAuthentication"):
        used |= {(each["name"], each["key"]) for each in authentication["spec"]["secretTargetRef"]}
    certificates = [ingress["spec"]["tls"][0]["secretName"] for ingress in production.of("Ingress")]
    certificates += [each["spec"]["tls"]["secretName"] for each in production.of("RabbitmqCluster")]
    used |= {(name, key) for name in certificates for key in ("tls.crt", "tls.key")}
    documented = {
        (name, key)
        for names, keys, *_ in _table("Production: the secrets")
        for name in re.findall(r"`([^`]+)`", names)
        for key in re.findall(r"`([^`]+)`", keys)
    }
    assert used == documented


def test_the_documentation_names_only_what_exists(overlays: dict[str, Overlay]) -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    kinds = {"deployment": "Deployment", "statefulset": "StatefulSet", "service": "Service"}
    named = set(re.findall(rf"\b({'|'.join(kinds)})/([a-z]+)", text))
    assert {kind for kind, _ in named} == kinds.keys()
    for kind, name in named:
        assert overlays["local"].one(kinds[kind], name)
    for pod in re.findall(r"\b([a-z]+)-0\b", text.partition("\n## Production\n")[0]):
        assert overlays["local"].one("StatefulSet", pod)
    for path in re.findall(r"`(k8s/[^` ]+|docker/[^` ]+)`", text):
        assert (ROOT / path).exists() or path == "k8s/local/secrets", path


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("rabbitmq.conf", "rabbitmq/rabbitmq.conf"),
        ("advanced.config", "rabbitmq/advanced.config"),
        ("topology.json", "rabbitmq/20-topology.json"),
        ("rights.sql", "mysql/20-rights.sql"),
    ],
)
def test_servers_are_set_up_as_in_docker(here: str, there: str) -> None:
    """The files are copies, since kubectl reads nothing outside the overlay."""
    assert (K8S / "local" / here).read_text() == (ROOT / "docker" / there).read_text()
