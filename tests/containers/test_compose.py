"""docker/compose.yaml in use: send, kill, scale, stop; nothing is lost or repeated."""

from __future__ import annotations

import signal
from http.client import HTTPConnection
from urllib.error import HTTPError

import pytest

from lab.harness.process import Process
from tests.containers.stack import Stack
from tests.door import exchange

pytestmark = pytest.mark.timeout(900)

SERVICES = ("rabbitmq", "mysql", "worker", "producer", "door", "dashboard")


def assert_all_served(stack: Stack, sender: Process) -> None:
    """Stop the sender cleanly; assert that the table holds everything this host has sent."""
    sender.signal(signal.SIGINT)
    assert sender.wait(60) == 0, sender.last_words()
    count = stack.accepted()
    stack.wait_served(count)
    clients = stack.wait_audit()["clients"]
    [account] = [each for each in clients if each["client"].startswith("outside-")]
    assert (account["served"], account["highest"]) == (count, count)


def test_the_client_of_the_compose_file_is_served_in_turn(stack: Stack) -> None:
    stack.wait(lambda: stack.served("compose-%") >= 6, "six requests of it are served")
    replicas = {
        name
        for [name] in stack.query(
            "SELECT served_by FROM counter_db.requests WHERE client LIKE 'compose-%'"
        )
    }
    # Workers are named after their containers.
    assert replicas == set(stack.containers("worker"))
    assert len(replicas) == 2


def test_a_request_can_be_sent_by_http(stack: Stack) -> None:
    token = (stack.secrets / "door-token").read_text().strip()
    door = HTTPConnection("127.0.0.1", int(stack.ports["DOOR_PORT"]), timeout=20)
    assert exchange(door, "PUT", "/requests/by-http/1", b"hello").status == 401
    answer = exchange(door, "PUT", "/requests/by-http/1", b"hello", Authorization=f"Bearer {token}")
    assert answer.status == 201
    door.close()
    stack.wait(lambda: stack.served("by-http") == 1, "it is served")


def test_a_thousand_requests_survive_the_kill_of_each_container(stack: Stack) -> None:
    count = stack.accepted() + 1000
    sender = stack.sender("killed", "--quantum", "20ms")
    for service in SERVICES:
        for container in stack.containers(service):
            stack.crash(container)
    stack.wait(lambda: stack.accepted() >= count, "a thousand are sent")
    assert_all_served(stack, sender)


def test_scaling_replicas_under_load_loses_nothing(stack: Stack) -> None:
    sender = stack.sender("scaled", "--quantum", "20ms")
    stack.up("--scale", "worker=5")
    five = stack.containers("worker")
    assert len(five) == 5
    stack.wait(lambda: set(five) <= stack.audit()["served_by"].keys(), "all five serve")
    stack.up("--scale", "worker=1")
    assert len(stack.containers("worker")) == 1
    assert_all_served(stack, sender)
    stack.up()


def test_an_upgrade_of_every_container_under_load_loses_nothing(stack: Stack) -> None:
    sender = stack.sender("upgraded", "--quantum", "20ms")
    before = {
        name: stack.inspect(name, ".Id") for each in SERVICES for name in stack.containers(each)
    }
    stack.wait_served(stack.served() + 100)
    stack.up("--force-recreate")
    after = {
        name: stack.inspect(name, ".Id") for each in SERVICES for name in stack.containers(each)
    }
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    stack.wait_served(stack.served() + 100)
    assert_all_served(stack, sender)


def test_a_worker_finishes_what_it_holds_on_sigterm(stack: Stack) -> None:
    repeated = stack.repeated()
    sender = stack.sender("stopped", "--quantum", "5ms")
    workers = stack.containers("worker")
    stack.wait_served(stack.served() + 100)
    stack.compose("stop", "worker", "producer", "dashboard")
    for container in [*workers, stack.the_one("producer"), stack.the_one("dashboard")]:
        assert stack.inspect(container, ".State.ExitCode") == 0, container
    for container in workers:
        assert "worker.stopped" in stack.logs(container)
    stack.up()
    assert_all_served(stack, sender)
    # Every delivery was acked: nothing was redelivered.
    assert stack.repeated() == repeated


@pytest.mark.parametrize("service", ["worker", "producer", "dashboard"])
def test_the_projects_containers_are_locked_down(stack: Stack, service: str) -> None:
    container = stack.containers(service)[0]
    status = dict(
        line.split(":\t", 1)
        for line in stack.run("docker", "exec", container, "cat", "/proc/1/status").splitlines()
        if ":\t" in line
    )
    # The command itself is process 1, so that SIGTERM reaches it.
    assert status["Name"] == service
    assert status["Uid"].split() == ["10001"] * 4
    assert status["NoNewPrivs"] == "1"
    assert {status[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")} == {"0" * 16}
    for folder in ("/", "/opt/turnwise", "/tmp", "/usr/local/bin"):  # noqa: S108
        stack.run("docker", "exec", container, "sh", "-c", f"test ! -w {folder}")
    for program in ("pip", "gcc", "make", "lab"):
        stack.run("docker", "exec", container, "sh", "-c", f"! command -v {program}")


def test_the_servers_do_not_run_as_root(stack: Stack) -> None:
    for service in ("rabbitmq", "mysql"):
        [container] = stack.containers(service)
        assert stack.run("docker", "exec", container, "id", "-u").strip() == "999"


def test_the_page_shows_the_replicas(stack: Stack) -> None:
    workers = stack.containers("worker")
    stack.wait(lambda: all(worker in stack.page("/api/state") for worker in workers), "both")
    with pytest.raises(HTTPError, match="401"):
        stack.page("/api/state", "another")


def test_everything_is_published_on_loopback_only(stack: Stack) -> None:
    published = [
        address["HostIp"]
        for service in SERVICES
        for container in stack.containers(service)
        for addresses in stack.inspect(container, ".NetworkSettings.Ports").values()
        for address in addresses or []
    ]
    assert len(published) >= 3
    assert set(published) == {"127.0.0.1"}


def test_no_password_is_in_the_environment_or_the_logs(stack: Stack) -> None:
    secrets = {file.name: file.read_text().strip() for file in stack.secrets.iterdir()}
    passwords = [text for name, text in secrets.items() if not name.endswith((".json", ".sql"))]
    passwords = [text.split("://")[-1].split("@")[0].split(":")[-1] for text in passwords]
    assert all(len(password) == 32 for password in passwords)
    for service in SERVICES:
        for container in stack.containers(service):
            shown = stack.run("docker", "inspect", container) + stack.logs(container)
            assert not [password for password in passwords if password in shown]
