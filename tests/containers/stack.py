"""docker/compose.yaml as tests drive it, with its own project, ports and passwords."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from lab.harness.commands import BIN
from lab.harness.process import Process, free_port, wait_until

ROOT = Path(__file__).parent.parent.parent
IMAGE = "turnwise"


class Stack:
    """All services of the compose file, from the outside; removed with their volumes at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = folder / "secrets"
        self.project = f"turnwise-test-{os.getpid()}"
        self.ports = {
            name: str(free_port())
            for name in (
                "AMQP_PORT",
                "MANAGEMENT_PORT",
                "MYSQL_PORT",
                "DOOR_PORT",
                "DASHBOARD_PORT",
            )
        }
        self.environment = {
            **os.environ,
            **self.ports,
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": str(ROOT / "compose.yaml"),
            "SECRETS": str(self.secrets),
            "PRODUCER_OUTBOX": str(folder / "outbox.db"),
            "PRODUCER_CLIENT": "outside",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        try:
            self.run("make", "secrets")
            self.compose("build")
            self.up()
            self.environment |= self.printed_settings()
        except BaseException:
            # __exit__ is not called if __enter__ fails.
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        self.compose("--profile", "operator", "down", "--volumes", "--timeout", "1")

    # -- commands

    def run(self, *command: str, stdin: bytes | None = None, merged: bool = False) -> str:
        """Run a command in the repository's folder, which must succeed; return its output.

        ``merged``: including standard error.
        """
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            timeout=300,
            check=False,
        )
        said = result.stdout.decode()
        assert result.returncode == 0, f"{command}: {said}{(result.stderr or b'').decode()}"
        return said

    def start(self, name: str, *command: str) -> Process:
        """Start a command in the background, with its log in a file called after ``name``."""
        process = Process(name, self.folder, command, self.environment)
        self._processes.append(process)
        process.start()
        return process

    def shell(self, script: str) -> str:
        """Run a script as a user would type it, in the test's own folder."""
        return self.run("/bin/bash", "-euxo", "pipefail", "-c", f"cd {self.folder}\n{script}")

    def compose(self, *words: str) -> str:
        return self.run("docker", "compose", *words)

    def up(self, *options: str) -> None:
        """Start the services that are down, and wait until all are healthy."""
        self.compose("up", "--detach", "--wait", *options)

    def printed_settings(self) -> dict[str, str]:
        """Return the variables that ``eval "$(docker/env)"`` sets."""
        said = self.shell(
            f'eval "$({ROOT}/docker/env)"; echo "$AMQP_URL"; echo "$MYSQL_URL"'
        ).split()
        return dict(zip(("AMQP_URL", "MYSQL_URL"), said, strict=True))

    # -- containers

    def containers(self, service: str) -> list[str]:
        """Return the names of a service's running containers."""
        return sorted(self.compose("ps", "--format", "{{.Name}}", service).split())

    def the_one(self, service: str) -> str:
        """Return the name of a service's only container, running or not."""
        return f"{self.project}-{service}-1"

    def inspect(self, container: str, template: str) -> Any:
        return json.loads(
            self.run("docker", "inspect", "--format", f"{{{{json {template}}}}}", container)
        )

    def crash(self, container: str) -> None:
        """Send SIGKILL from outside Docker, which then restarts it as after any crash."""
        begun = self.inspect(container, ".State.StartedAt")
        pid = self.inspect(container, ".State.Pid")
        self.run(
            "docker", "run", "--rm", "--pid=host", "--user=0", "--network=none", IMAGE,
            "sh", "-c", f"kill -KILL {pid}",
        )  # fmt: skip
        self.wait(
            lambda: (
                self.inspect(container, ".State.StartedAt") != begun
                and self.inspect(container, ".State.Running")
            ),
            f"{container} is started again",
        )
        self.wait(lambda: self.health(container) in {None, "healthy"}, f"{container} is healthy")

    def health(self, container: str) -> str | None:
        """Return the state of the container's health check, or None if it has none."""
        state = self.inspect(container, ".State.Health")
        return state and str(state["Status"])

    def logs(self, container: str) -> str:
        """Return the container's whole log."""
        return self.run("docker", "logs", container, merged=True)

    def wait(self, condition: Callable[[], object], what: str, timeout: float = 180) -> None:
        wait_until(condition, what, timeout, interval=0.2)

    # -- the pipeline

    def sender(self, name: str, *options: str) -> Process:
        """Start a producer on the host."""
        return self.start(name, str(BIN / "producer"), "send", "hello", *options)

    def send(self, count: int) -> None:
        self.run("producer", "send", "--stdin", stdin=b"".join(b"m%d\n" % i for i in range(count)))

    def accepted(self) -> int:
        """Return how many requests the host's outbox has accepted so far."""
        if not (self.folder / "outbox.db").exists():
            return 0
        return int(json.loads(self.run("producer", "status", "--json"))["accepted"])

    def query(self, statement: str) -> list[list[str]]:
        """Run a query in MySQL as root; return its rows."""
        said = self.run(
            "docker", "compose", "exec", "-T", "mysql", "sh", "-c",
            'MYSQL_PWD=$(cat /run/secrets/mysql-root-password) exec mysql --user=root -NB -e "$0"',
            statement,
        )  # fmt: skip
        return [line.split("\t") for line in said.splitlines()]

    def served(self, client: str = "outside-%") -> int:
        [[count]] = self.query(
            f"SELECT COUNT(*) FROM counter_db.requests WHERE client LIKE '{client}'"
        )
        return int(count)

    def wait_served(self, count: int) -> None:
        """Wait until every request sent from this host is served."""
        self.wait(lambda: self.served() >= count, f"{count} rows")

    def repeated(self) -> int:
        """Return how many requests were delivered more than once."""
        [[count]] = self.query("SELECT COUNT(*) FROM counter_db.requests WHERE deliveries > 1")
        return int(count)

    def messages(self) -> int | None:
        """Return how many requests the queue holds, or None right after a start."""
        count = self.api("queues/turnwise/requests").get("messages")
        return None if count is None else int(count)

    def audit(self) -> dict[str, Any]:
        """Return the audit's report, which counts unsettled requests as missing."""
        result = subprocess.run(
            [BIN / "worker", "audit", "--json"],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return dict(json.loads(result.stdout))

    def wait_audit(self) -> dict[str, Any]:
        """Wait until the audit holds: a lasting gap is a lost request."""
        self.wait(lambda: self.audit()["holds"], "the audit holds", timeout=60)
        return self.audit()

    # -- accounts

    def amqp_url(self, user: str) -> str:
        """Return the URL of a broker account, as seen from the host."""
        if user == "dashboard":
            login = ":".join(self.management_login())
            return f"amqp://{login}@127.0.0.1:{self.ports['AMQP_PORT']}/turnwise"
        return self._url(f"{user}-amqp-url", "rabbitmq:5672", "AMQP_PORT")

    def mysql_url(self, user: str) -> str:
        """Return the URL of a database account, as seen from the host."""
        return self._url(f"{user}-mysql-url", "mysql:3306", "MYSQL_PORT")

    def management_login(self) -> tuple[str, str]:
        """Return the page's user and password."""
        parts = urlsplit((self.secrets / "dashboard-management-url").read_text())
        return str(parts.username), str(parts.password)

    def api(self, path: str) -> Any:
        """Query RabbitMQ's management API as its administrator."""
        password = (self.secrets / "admin-password").read_text().strip()
        status, body = self.call("GET", path, "admin", password)
        assert status == HTTPStatus.OK, body
        return json.loads(body)

    def page(self, path: str, token: str | None = None) -> str:
        """Return the body of a page's response."""
        token = token or (self.secrets / "dashboard-token").read_text().strip()
        url = f"http://127.0.0.1:{self.ports['DASHBOARD_PORT']}{path}"
        request = Request(url, headers={"Authorization": f"Bearer {token}"})
        with urlopen(request, timeout=10) as response:  # noqa: S310
            return str(response.read().decode())

    def call(self, method: str, path: str, user: str, password: str) -> tuple[int, bytes]:
        """Call RabbitMQ's management API; return the status and the body."""
        connection = HTTPConnection("127.0.0.1", int(self.ports["MANAGEMENT_PORT"]), timeout=10)
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        with contextlib.closing(connection):
            connection.request(method, f"/api/{path}", headers={"Authorization": f"Basic {login}"})
            response = connection.getresponse()
            return response.status, response.read()

    def _url(self, file: str, address: str, port: str) -> str:
        text = (self.secrets / file).read_text().strip()
        return text.replace(f"@{address}", f"@127.0.0.1:{self.ports[port]}")
