"""What docker/ repeats of the code, against the code; and the passwords. Needs no Docker."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from producer.commands.serve import DEFAULT_TIMEOUT
from producer.door.door import STOP_MARGIN
from producer.relay.relay import STOP_BUDGET
from producer.report import STOP_GRACE
from turnwise.topology import Topology
from worker.replica import SHUTDOWN_BUDGET

DOCKER = Path(__file__).parent.parent.parent / "docker"
COMPOSE = (DOCKER / "compose.yaml").read_text()


def service(name: str) -> str:
    """The part of the compose file that is about a service."""
    [found] = re.findall(rf"^  {name}:\n((?:    .*\n|\n)+)", COMPOSE, re.MULTILINE)
    return str(found)


def test_the_brokers_definitions_match_the_topology_the_code_declares() -> None:
    topology = Topology()
    declared: dict[str, Any] = json.loads((DOCKER / "rabbitmq" / "20-topology.json").read_text())
    assert {queue["name"]: queue["arguments"] for queue in declared["queues"]} == {
        topology.queue: topology.queue_arguments,
        topology.dead: topology.dead_arguments,
    }
    assert {exchange["name"] for exchange in declared["exchanges"]} == {
        topology.exchange,
        topology.dead,
    }
    assert all(each["durable"] for each in declared["queues"] + declared["exchanges"])
    assert all(exchange["type"] == "direct" for exchange in declared["exchanges"])
    assert {
        (binding["source"], binding["routing_key"], binding["destination"])
        for binding in declared["bindings"]
    } == {
        (topology.exchange, topology.queue, topology.queue),
        (topology.dead, topology.dead, topology.dead),
    }


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("worker", SHUTDOWN_BUDGET),
        ("producer", STOP_GRACE),
        ("relay", STOP_BUDGET),
        ("door", DEFAULT_TIMEOUT + STOP_MARGIN),
    ],
)
def test_a_container_is_given_the_time_to_finish(name: str, budget: float) -> None:
    [grace] = re.findall(r"stop_grace_period: (\d+)s", service(name))
    assert int(grace) > budget


SERVICES = re.findall(r"^  ([a-z]+):$", COMPOSE.partition("\nvolumes:")[0], re.MULTILINE)
ONCE = {"migrate", "operator"}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_bounded_and_watched(name: str) -> None:
    """The shared parts bound it; a service that keeps running has a health check."""
    text = service(name)
    [shared] = re.findall(r"<<: \*(turnwise|server)$", text, re.MULTILINE)
    [part] = re.findall(rf"^x-{shared}: .*\n((?:  .*\n)+)", COMPOSE, re.MULTILINE)
    assert "logging: *logging" in part
    for limit in ("mem_limit", "pids_limit"):
        assert f"  {limit}: " in part + text
    assert ("healthcheck:" in text) == (name not in ONCE)


def test_the_published_ports_are_those_of_the_documents() -> None:
    page = (DOCKER.parent / "docs/containers.md").read_text()
    _, _, services = COMPOSE.partition("\nvolumes:\n")[0].partition("\nservices:\n")
    published = {
        name: re.findall(r"127\.0\.0\.1:\$\{\w+:-(\d+)\}", service(name))
        for name in re.findall(r"^  (\w+):\n", services, re.MULTILINE)
    }
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d, ]*)\|$", page, re.MULTILINE)
    assert {name: re.findall(r"\d+", ports) for name, ports in rows} == published
    links = set(re.findall(r"localhost:(\d+)", (DOCKER.parent / "README.md").read_text()))
    assert links <= {port for ports in published.values() for port in ports}


def test_one_service_builds_the_image_and_none_pulls_it() -> None:
    assert COMPOSE.count("build:") == 1
    assert "pull_policy: never" in COMPOSE


def test_the_locked_releases_are_those_the_project_asks_for() -> None:
    project = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())
    locked = dict(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (DOCKER / "requirements.txt").read_text(), re.MULTILINE)
    )
    extras = project["project"]["optional-dependencies"]
    all_wanted = [
        *project["project"]["dependencies"],
        *(e for each in extras.values() for e in each),
    ]
    for wanted in map(Requirement, all_wanted):
        assert wanted.specifier.contains(locked[wanted.name]), f"{wanted}: make lock"


def make_secrets(folder: Path) -> str:
    return subprocess.run(
        [sys.executable, DOCKER / "make_secrets.py", folder],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_every_secret_of_the_compose_file_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert "made" in make_secrets(folder)
    used = set(re.findall(r"\$\{SECRETS:-\./secrets\}/([a-z.-]+)", COMPOSE))
    made = {file.name for file in folder.iterdir()}
    # The administrator's is for people.
    assert made - used == {"admin-password"}
    assert used <= made
    assert folder.stat().st_mode & 0o777 == 0o700


def test_secrets_differ_and_are_made_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    make_secrets(one)
    make_secrets(other)
    before = {file.name: file.read_text() for file in one.iterdir()}
    assert all((other / name).read_text() != content for name, content in before.items())
    assert "there already" in make_secrets(one)
    assert before == {file.name: file.read_text() for file in one.iterdir()}
    # One that a later release asks for is made beside them.
    (one / "door-token").unlink()
    assert "door-token" in make_secrets(one)
    after = {file.name: file.read_text() for file in one.iterdir()}
    assert {name for name in before if after[name] != before[name]} == {"door-token"}


def test_rabbitmq_is_given_hashes(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    users = {
        user["name"]: user
        for user in json.loads((folder / "rabbitmq-users.json").read_text())["users"]
    }
    password = (folder / "admin-password").read_text().strip()
    salted = base64.b64decode(users["admin"]["password_hash"])
    assert salted[4:] == hashlib.sha256(salted[:4] + password.encode()).digest()
    rights = json.loads((DOCKER / "rabbitmq" / "20-topology.json").read_text())["permissions"]
    assert {right["user"] for right in rights} == users.keys()


def test_the_settings_for_a_shell_report_what_they_need(tmp_path: Path) -> None:
    def said(**environment: str) -> str:
        done = subprocess.run(
            ["/bin/sh", DOCKER / "env"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "dirname").symlink_to("/usr/bin/dirname")
    assert said(PATH=str(programs)) == "docker/env: there is no Docker on this machine\n"
    # One that is not asked.
    (programs / "docker").symlink_to("/bin/false")
    nowhere = said(PATH=str(programs), SECRETS=str(tmp_path))
    assert "producer-amqp-url: 'make secrets' makes it" in nowhere
    (tmp_path / "producer-amqp-url").write_text("amqp://producer:secret@rabbitmq:5672/turnwise")
    down = said(PATH=str(programs), SECRETS=str(tmp_path))
    assert "'docker compose up' starts it" in down
    assert "secret@" not in down
