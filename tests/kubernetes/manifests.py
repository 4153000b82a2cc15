"""The manifests of k8s/ as they would be applied, and queries on them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from lab.harness.commands import BIN

ROOT = Path(__file__).parent.parent.parent
K8S = ROOT / "k8s"
NAME = "app.kubernetes.io/name"
OVERLAYS = ("local", "production")

Object: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod template of one workload."""

    owner: Object
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        return self.labels[NAME]

    @property
    def container(self) -> dict[str, Any]:
        [container] = self.spec["containers"]
        return dict(container)

    @property
    def ports(self) -> dict[str, int]:
        """The container's ports by name."""
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    @property
    def serves(self) -> bool:
        """Return whether it runs permanently."""
        return bool(self.owner["kind"] != "Job")

    def secret_keys(self) -> Iterator[tuple[str, str]]:
        """Yield each Secret and key of a file that a variable names, or that is mounted alone."""
        secrets = {
            volume["name"]: volume["secret"]["secretName"]
            for volume in self.spec.get("volumes", [])
            if "secret" in volume
        }
        for mount in self.container.get("volumeMounts", []):
            if mount["name"] not in secrets:
                continue
            if "subPath" in mount:
                yield secrets[mount["name"]], mount["subPath"]
            for variable in self.container.get("env", []):
                folder, _, key = variable.get("value", "").rpartition("/")
                if folder == mount["mountPath"]:
                    yield secrets[mount["name"]], key


class Overlay:
    """One rendered overlay."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def of(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] in kinds]

    def of_group(self, group: str, *kinds: str) -> list[Object]:
        """Return the objects of one operator, for kinds that several operators have."""
        return [each for each in self.of(*kinds) if each["apiVersion"].startswith(f"{group}/")]

    def one(self, kind: str, name: str) -> Object:
        [found] = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found

    def pods(self) -> list[Pod]:
        return [
            Pod(
                each,
                each["spec"]["template"]["metadata"]["labels"],
                each["spec"]["template"]["spec"],
            )
            for each in self.of("Deployment", "StatefulSet", "Job")
        ]

    def pod(self, name: str) -> Pod:
        [found] = [pod for pod in self.pods() if pod.name == name]
        return found

    def pod_names(self) -> set[str]:
        """Pod names, including those of an operator's pods, which are named after the cluster."""
        made = {each["metadata"]["name"] for each in self.of("RabbitmqCluster", "MariaDB")}
        return {pod.name for pod in self.pods()} | made

    def configuration(self) -> dict[str, str]:
        """The data of the programs' ConfigMap."""
        [found] = [
            each
            for each in self.of("ConfigMap")
            if each["metadata"]["name"].startswith("turnwise-")
        ]
        return dict(found["data"])


def render(folder: Path) -> list[Object]:
    """Render an overlay as 'kubectl apply -k' does. Raises AssertionError with kubectl's error."""
    result = subprocess.run(
        [BIN / "kubectl", "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def render_all(folder: Path) -> dict[str, Overlay]:
    """Render each overlay in a copy of k8s/ in ``folder``, with generated secrets."""
    copy = folder / "k8s"
    shutil.copytree(K8S, copy, ignore=shutil.ignore_patterns("secrets"))
    subprocess.run(
        [sys.executable, ROOT / "docker" / "make_secrets.py", copy / "local" / "secrets"],
        capture_output=True,
        check=True,
    )
    rendered = {name: Overlay(render(copy / name)) for name in OVERLAYS}
    # The overlay of docs/handlers.md that runs a handler.
    [handler] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/handlers.md").read_text(), re.DOTALL)
    (copy / "handler").mkdir()
    (copy / "handler" / "kustomization.yaml").write_text(handler)
    rendered["handler"] = Overlay(render(copy / "handler"))
    # The change of docs/kubernetes.md for Gateway API.
    with (copy / "production" / "kustomization.yaml").open("a") as file:
        file.write("components: [../gateway]\n")
    return {**rendered, "gateway": Overlay(render(copy / "production"))}
