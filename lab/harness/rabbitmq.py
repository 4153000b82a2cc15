"""A private RabbitMQ: on loopback, with a generated password, and its management API."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lab.harness import files
from lab.harness.errors import LabError
from lab.harness.packages import Programs
from lab.harness.process import Process, Runner, answers, free_port, wait_until

USER = "lab"
VIRTUAL_HOST = "turnwise"
START_TIMEOUT = 120.0
STOP_TIMEOUT = 30.0
CTL_TIMEOUT = 20.0

MEMORY_WATERMARK = "1GB"

_BAD_WORDS = 65
"""rabbitmqctl's exit code for an argument that it does not accept (sysexits.h: data)."""

CONFIG = """\
listeners.tcp.default = {address}:{port}
management.tcp.ip = {address}
management.tcp.port = {management_port}
default_user = {user}
default_pass = {password}
default_vhost = {vhost}
# The management figures are a second old at most.
collect_statistics_interval = 1000
# What is left to the rest of the machine.
vm_memory_high_watermark.absolute = {watermark}
disk_free_limit.absolute = 100MB
# What is larger than any request is refused at the door.
max_message_size = 131072
"""

ADVANCED_CONFIG = """\
%% Quorum queues report their figures twice a second, not every five seconds.
[{rabbit, [{quorum_tick_interval, 500}]}].
"""


class RabbitMQ:
    """A server that can be started, stopped in every way, and queried."""

    def __init__(
        self,
        runner: Runner,
        port: int,
        management_port: int,
        password: str,
        ctl: tuple[list[str], dict[str, str]],
    ) -> None:
        self.runner = runner
        self.api_timeout = 10.0
        self._ctl = ctl
        self.port = port
        self.management_port = management_port
        self.password = password

    def url(self, vhost: str = VIRTUAL_HOST, port: int | None = None) -> str:
        """Return AMQP_URL, or one through a proxy's ``port``."""
        host = f"127.0.0.1:{port or self.port}"
        return f"amqp://{USER}:{self.password}@{host}/{quote(vhost, safe='')}"

    @property
    def management_url(self) -> str:
        """Return the address of the management UI."""
        return f"http://127.0.0.1:{self.management_port}/"

    def management_login(self, vhost: str = VIRTUAL_HOST) -> str:
        """Return MANAGEMENT_URL."""
        host = f"127.0.0.1:{self.management_port}"
        return f"http://{USER}:{self.password}@{host}/{quote(vhost, safe='')}"

    def start(self) -> None:
        """Start the server and wait until it serves."""
        self.runner.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the server serves, including its management API."""
        wait_until(
            lambda: answers(self.port) and self._overview(),
            "RabbitMQ starts",
            START_TIMEOUT,
            self.runner,
        )

    def stop(self) -> None:
        """Stop the server gracefully."""
        self.runner.stop(STOP_TIMEOUT)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self.runner.kill()

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API: ``api("GET", "queues", ...)``. Raises LabError on an error."""
        token = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - http, on loopback
            f"{self.management_url}api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.api_timeout) as response:  # noqa: S310
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise LabError(f"{method} {path}: {error.code} {error.read().decode()}") from error
        except OSError as error:
            raise LabError(f"{method} {path}: {error}") from error
        return json.loads(text) if text else None

    def make_vhost(self, name: str) -> None:
        """Create a virtual host that the lab's user may use."""
        self.api("PUT", f"vhosts/{quote(name, safe='')}", {})
        self.grant(USER, name)

    def grant(
        self, user: str, vhost: str, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Give a user permissions, as regular expressions of resource names."""
        self.api(
            "PUT",
            f"permissions/{quote(vhost, safe='')}/{quote(user, safe='')}",
            {"configure": configure, "write": write, "read": read},
        )

    def remove_vhost(self, name: str) -> None:
        """Delete a virtual host with everything in it."""
        self.api("DELETE", f"vhosts/{quote(name, safe='')}")

    def ctl(self, *words: str) -> str:
        """Run ``rabbitmqctl`` on the node; return what it printed.

        Raises LabError if it fails, ValueError if it does not accept an argument.
        """
        process = subprocess.Popen(
            [*self._ctl[0], *words],
            env={**os.environ, **self._ctl[1]},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            told, complaint = process.communicate(timeout=CTL_TIMEOUT)
        except subprocess.TimeoutExpired:
            # It is a script, and the processes that it started hold the pipes.
            with contextlib.suppress(ProcessLookupError):  # it may have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise LabError(f"rabbitmqctl {words[0]}: no answer") from None
        if process.returncode == _BAD_WORDS:
            raise ValueError(f"rabbitmqctl {' '.join(words)}: {complaint.strip()}")
        if process.returncode:
            raise LabError(f"rabbitmqctl {words[0]}: {complaint.strip()}")
        return told

    def version(self) -> str:
        """Return the version."""
        return str(self.api("GET", "overview")["rabbitmq_version"])

    def _overview(self) -> bool:
        try:
            self.api("GET", "overview")
        except LabError:
            return False
        return True


class PrivateRabbitMQ(RabbitMQ):
    """A RabbitMQ that keeps everything in ``folder``, with a name server (epmd) of its own.

    A folder that was used before keeps its ports, its password and its data. Start the name server
    first; otherwise Erlang starts one that outlives this process.
    """

    def __init__(self, folder: Path, name: str = "rabbitmq", *, attached: bool = True) -> None:
        self._base = folder.resolve() / name
        settings_file = self._base / "settings.json"
        if not settings_file.exists():
            self._base.mkdir(parents=True, mode=0o700, exist_ok=True)
            settings = {
                "port": free_port(),
                "management_port": free_port(),
                "distribution_port": free_port(),
                "epmd_port": free_port(),
                "password": secrets.token_urlsafe(18),
            }
            files.write(settings_file, json.dumps(settings))
        self._settings = json.loads(settings_file.read_text())
        self._process = Process(name, self._base, [], attached=attached)
        self.epmd = Process("epmd", self._base, [], attached=attached)
        super().__init__(
            self._process,
            self._settings["port"],
            self._settings["management_port"],
            self._settings["password"],
            ([], {}),
        )

    def equip(self, programs: Programs) -> None:
        """Set the programs to run, and write their configuration."""
        settings, base = self._settings, self._base
        config, plugins, advanced = (
            base / "rabbitmq.conf", base / "enabled_plugins", base / "advanced.config"
        )  # fmt: skip
        files.write(
            config,
            CONFIG.format(
                address="127.0.0.1",
                watermark=MEMORY_WATERMARK,
                user=USER,
                vhost=VIRTUAL_HOST,
                **settings,
            )
            + self._more_config(),
        )
        files.write(plugins, "[rabbitmq_management].\n")
        files.write(advanced, ADVANCED_CONFIG)
        environment = {
            **programs.environment(),
            "PATH": f"{programs.erlang}:/usr/sbin:/usr/bin:/sbin:/bin",
            # Erlang generates its cookie in HOME.
            "HOME": str(base),
            "ERL_EPMD_PORT": str(settings["epmd_port"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "turnwise@localhost",
            "RABBITMQ_DIST_PORT": str(settings["distribution_port"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(advanced),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(base / "data"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
            # Makes the script become the server instead of waiting for it: one process to signal.
            "RUNNING_UNDER_SYSTEMD": "true",
            **self._more_environment(),
        }
        port = str(settings["epmd_port"])
        self.epmd.command = [programs.erlang / "epmd", "-port", port, "-address", "127.0.0.1"]
        self._process.command = [programs.rabbitmq_server]
        self.epmd.environment = self._process.environment = environment
        ctl = programs.rabbitmq_server.with_name("rabbitmqctl")
        self._ctl = ([str(ctl), "--quiet"], environment)

    def _more_config(self) -> str:
        """Return lines of rabbitmq.conf that come last."""
        return ""

    def _more_environment(self) -> dict[str, str]:
        """Return variables that come last."""
        return {}
