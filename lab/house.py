"""What ``lab up`` leaves running: servers, workers and the page, in one folder."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql

from lab.harness import commands, files
from lab.harness.database import NAME, DatabaseServer
from lab.harness.errors import LabError
from lab.harness.process import Process, free_port
from lab.harness.rabbitmq import VIRTUAL_HOST, RabbitMQ
from lab.harness.servers import Servers, purge
from lab.harness.trio import Trio
from turnwise import cluster

STOP_TIMEOUT = 30.0


class House:
    """The folder UP of a lab. Its processes are found again by the files that identify them."""

    def __init__(self, folder: Path) -> None:
        self.base = folder / "up"
        self._packages = folder / "packages"
        self._note = self.base / "lab.json"
        self.page = Process("dashboard", self.base, [])

    @property
    def there(self) -> bool:
        """Whether something was started here since the last purge."""
        return self.base.exists()

    def servers(self, *, containers: bool | None = None, nodes: int = 1) -> Servers | Trio:
        """Return the servers: as they were created, unless arguments say how to create them."""
        note = json.loads(self._note.read_text()) if self._note.exists() else {}
        if containers is None:
            containers, nodes = note.get("containers", False), note.get("nodes", 1)
        elif note and note.get("nodes", 1) != nodes:
            raise LabError(
                f"this folder has servers of {note.get('nodes', 1)} node(s): 'lab down --purge' "
                "removes them with their data, or take another --folder"
            )
        servers: Servers | Trio
        if nodes > 1:
            servers = Trio(self.base, self._packages, attached=False)
        else:
            servers = Servers(
                self.base, self._packages, attached=False, in_containers=bool(containers)
            )
        files.write(self._note, json.dumps({"containers": bool(containers), "nodes": nodes}))
        return servers

    def start(self, servers: Servers | Trio, workers: int, tell: Callable[[str], None]) -> None:
        """Start what does not run; stop it again if interrupted."""
        servers.require()
        before = {process.name for process in self._processes()}
        ran = servers.running
        try:
            tell(f"page           {page_url(self.base)}")
            tell(f"  as operator  {operators_url(self.base)}")
            if not self.page.alive():
                self.page = start_page(servers, self.base, attached=False)
            if not ran:
                tell("Starting RabbitMQ and the database ...")
            servers.start()
            self._scale(servers, workers)
            commands.wait_event(self.page, "dashboard.serving")
        except BaseException:
            # By their files, since an interruption may come while one of them is being started.
            for process in self._processes():
                if process.name not in before:
                    process.kill()
            if not ran:
                servers.kill()
            raise

    def _processes(self) -> list[Process]:
        page = Process(self.page.name, self.base, [])
        return [*self.workers(), *([page] if page.alive() else [])]

    def _scale(self, servers: Servers | Trio, count: int) -> None:
        for number in range(1, count + 1):
            name = f"worker-{number}"
            if not Process(name, self.base, []).alive():
                commands.start_worker(name, self.base, environment(servers), attached=False)
        for extra in self.workers()[count:]:
            extra.stop(STOP_TIMEOUT)
        for worker in self.workers():
            commands.wait_event(worker, "worker.consuming")

    def workers(self) -> list[Process]:
        """Return the running workers, in the order of their numbers."""
        numbers = sorted(
            int(note.stem.partition("-")[2]) for note in self.base.glob("worker-*.pid")
        )
        workers = [Process(f"worker-{number}", self.base, []) for number in numbers]
        return [worker for worker in workers if worker.alive()]

    def stop(self) -> None:
        """Stop everything, gracefully if possible. The data stays."""
        for process in self._processes():
            process.stop(STOP_TIMEOUT)
        self.servers().stop()

    def purge(self) -> None:
        """Stop everything and delete it, whatever its state."""
        purge(self.base)

    def figures(self, servers: Servers | Trio) -> dict[str, Any]:
        """Return what runs, waits and was served; None where a server does not answer."""
        return {
            "running": servers.running,
            "page": page_url(self.base) if self.page.alive() else None,
            "page_as_operator": operators_url(self.base) if self.page.alive() else None,
            "workers": [worker.name for worker in self.workers()],
            **figures_of(servers),
        }


def figures_of(servers: Servers | Trio) -> dict[str, Any]:
    """Return the servers' own status; None where a server does not answer."""
    return {**_of_rabbitmq(servers.rabbitmq), **_of_database(servers.database)}


def _of_rabbitmq(server: RabbitMQ) -> dict[str, Any]:
    try:
        queues = server.api("GET", f"queues/{VIRTUAL_HOST}")
        return {
            "rabbitmq": server.version(),
            "management_ui": server.management_url,
            "queues": {queue["name"]: queue.get("messages", 0) for queue in queues},
            "warnings": list(cluster.warnings(server.api("GET", "nodes"), queues)),
        }
    except LabError:
        return {"rabbitmq": None, "management_ui": None, "queues": None, "warnings": []}


def _of_database(server: DatabaseServer) -> dict[str, Any]:
    try:
        tables = server.query("SHOW TABLES LIKE 'requests'", name=NAME)
        counted = server.query("SELECT COUNT(*) FROM requests", name=NAME) if tables else [(0,)]
        return {"database": server.version(), "served": counted[0][0]}
    except pymysql.Error:
        return {"database": None, "served": None}


def environment(servers: Servers | Trio) -> dict[str, str]:
    """Return the environment for commands that use these servers."""
    return {
        "AMQP_URL": servers.rabbitmq.url(),
        "MYSQL_URL": servers.database.url(),
        "MANAGEMENT_URL": servers.rabbitmq.management_login(),
    }


def start_page(servers: Servers | Trio, base: Path, *, attached: bool) -> Process:
    """Start the page, without waiting for it, so that it shows how the rest starts."""
    settings = environment(servers)
    note = _page_note(base)
    acting = {
        "DASHBOARD_OPERATOR_TOKEN": note["token"],
        "DASHBOARD_OPERATOR_MYSQL_URL": settings["MYSQL_URL"],
        "DASHBOARD_OPERATOR_AMQP_URL": settings["AMQP_URL"],
    }
    return commands.start_dashboard(base, settings | acting, note["port"], attached=attached)


def page_url(base: Path) -> str:
    """Return the page's address, where every user of this machine may look."""
    return f"http://127.0.0.1:{_page_note(base)['port']}/"


def operators_url(base: Path) -> str:
    """Return an address that logs its visitor in as an operator."""
    return f"{page_url(base)}login#token={_page_note(base)['token']}"


def _page_note(base: Path) -> dict[str, Any]:
    """Return the page's port and token, which last as long as the folder."""
    note = base / "dashboard.json"
    known = json.loads(note.read_text()) if note.exists() else {}
    if not {"port", "token"} <= known.keys():
        known = {"port": free_port(), "token": secrets.token_urlsafe(24)} | known
        files.write(note, json.dumps(known))
    return dict(known)
