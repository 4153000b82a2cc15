"""The same servers as Docker containers, for the newest releases and machines without packages."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from lab.harness import files
from lab.harness.database import NAME, USER, DatabaseServer
from lab.harness.errors import LabError
from lab.harness.process import free_port
from lab.harness.rabbitmq import ADVANCED_CONFIG, CONFIG, MEMORY_WATERMARK, VIRTUAL_HOST, RabbitMQ

RABBITMQ_IMAGE = "rabbitmq:4.3-management"
DATABASE_IMAGE = "mysql:9.7"


class Container:
    """A named container, created at its first start, and kept until ``remove``."""

    def __init__(self, name: str, image: str, options: list[str]) -> None:
        self.name = name
        self._image = image
        self._options = options

    def start(self) -> None:
        """Start the container."""
        if self._inspect("{{.Id}}"):
            _docker("start", self.name)
        else:
            _docker("run", "--detach", "--name", self.name, *self._options, self._image)

    def stop(self, timeout: float) -> None:
        """Stop the container gracefully, within ``timeout`` seconds."""
        _docker("stop", "--time", f"{timeout:.0f}", self.name)

    def kill(self) -> None:
        """Kill the container with SIGKILL."""
        _docker("kill", self.name)
        _docker("wait", self.name)

    def pause(self) -> None:
        """Freeze the container."""
        _docker("pause", self.name)

    def resume(self) -> None:
        """Resume the container, if it is frozen."""
        if self._inspect("{{.State.Paused}}") == "true":
            _docker("unpause", self.name)

    def alive(self) -> bool:
        """Return whether the container runs."""
        return self._inspect("{{.State.Running}}") == "true"

    def identity(self) -> str:
        """Return the container's ID and start time."""
        return self._inspect("{{.Id}}@{{.State.StartedAt}}") or "none"

    def last_words(self) -> str:
        """Return the last lines of the container's log."""
        result = subprocess.run(
            ["docker", "logs", "--tail", "15", self.name],
            capture_output=True,
            text=True,
            check=False,
        )
        return result.stdout + result.stderr

    def _inspect(self, template: str) -> str | None:
        try:
            return _docker("container", "inspect", "--format", template, self.name)
        except LabError:
            return None


def available() -> bool:
    """Return whether a Docker daemon answers."""
    if not shutil.which("docker"):
        return False
    return not subprocess.run(
        ["docker", "info"],
        capture_output=True,
        check=False,
    ).returncode


def remove(folder: Path) -> None:
    """Remove the containers whose settings are in ``folder``, with their data."""
    for kind in ("rabbitmq", "database"):
        settings = folder / f"{kind}-container.json"
        if settings.exists():
            name = json.loads(settings.read_text())["name"]
            with contextlib.suppress(LabError, OSError):
                _docker("rm", "--force", "--volumes", f"turnwise-{kind}-{name}")


def rabbitmq(folder: Path) -> RabbitMQ:
    """Return a RabbitMQ container whose settings are in ``folder``."""
    settings = _settings(folder / "rabbitmq-container.json", "port", "management_port")
    config = folder.resolve() / "rabbitmq.conf"
    config.write_text(
        CONFIG.format(
            watermark=MEMORY_WATERMARK,
            address="0.0.0.0",
            user=USER,
            vhost=VIRTUAL_HOST,
            password=settings["password"],
            port=5672,
            management_port=15672,
        )
    )
    advanced = folder.resolve() / "advanced.config"
    advanced.write_text(ADVANCED_CONFIG)
    for file in (config, advanced):
        file.chmod(0o644)  # another user reads it, in the container
    container = Container(
        f"turnwise-rabbitmq-{settings['name']}",
        RABBITMQ_IMAGE,
        [
            "--hostname=rabbitmq",  # the data is stored under this name
            f"--volume={config}:/etc/rabbitmq/rabbitmq.conf:ro",
            f"--volume={advanced}:/etc/rabbitmq/advanced.config:ro",
            f"--publish=127.0.0.1:{settings['port']}:5672",
            f"--publish=127.0.0.1:{settings['management_port']}:15672",
        ],
    )
    # As the server's own user, since as root it may leave a cookie that the server cannot read.
    ctl = ["docker", "exec", "--user", "rabbitmq", container.name, "rabbitmqctl", "--quiet"]
    return RabbitMQ(
        container,
        settings["port"],
        settings["management_port"],
        settings["password"],
        (ctl, {}),
    )


def database(folder: Path) -> DatabaseServer:
    """Return a MySQL container whose settings are in ``folder``."""
    settings = _settings(folder / "database-container.json", "port")
    # A file, since all users of the machine can read passwords on a command line.
    secret = folder / "database-container.env"
    secret.touch(mode=0o600)
    secret.write_text(
        f"MYSQL_ROOT_PASSWORD={settings['password']}\nMYSQL_USER={USER}\n"
        f"MYSQL_PASSWORD={settings['password']}\nMYSQL_DATABASE={NAME}\n"
    )
    initial = folder.resolve() / "initial.sql"
    initial.write_text(f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n")
    container = Container(
        f"turnwise-database-{settings['name']}",
        DATABASE_IMAGE,
        [
            f"--publish=127.0.0.1:{settings['port']}:3306",
            f"--volume={initial}:/docker-entrypoint-initdb.d/initial.sql:ro",
            f"--env-file={secret}",
        ],
    )
    return DatabaseServer(container, settings["port"], settings["password"])


def _settings(file: Path, *ports: str) -> dict[str, Any]:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = {name: free_port() for name in ports}
        values |= {"password": secrets.token_urlsafe(18), "name": secrets.token_hex(4)}
        files.write(file, json.dumps(values))
    return dict(json.loads(file.read_text()))


def _docker(*words: str) -> str:
    result = subprocess.run(
        ["docker", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        # Leaves out the command, which may hold a password.
        raise LabError(f"docker {words[0]}: {result.stderr.strip()}")
    return result.stdout.strip()
