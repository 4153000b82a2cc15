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
    """The folder UP of a lab. What runs there is found again by its notes."""

    def __init__(self, folder: Path) -> None:
        self.base = folder / "up"
        self._packages = folder / "packages"
        self._note = self.base / "lab.json"
        self.page = Process("dashboard", self.base, [])

    @property
    def there(self) -> bool:
        """Whether something was ever started, and not purged."""
        return self.base.exists()

    def servers(self, *, containers: bool | None = None, nodes: int = 1) -> Servers | Trio:
        """Return the servers; as they were made, unless it is said how to make them."""
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
        """Start what does not run; end that again if it is broken off."""
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
            # By their notes: what breaks it off may come while one of them is being started.
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
        """Return the workers that run, in the order of their numbers."""
        numbers = sorted(
            int(note.stem.partition("-")[2]) for note in self.base.glob("worker-*.pid")
        )
        workers = [Process(f"worker-{number}", self.base, []) for number in numbers]
        return [worker for worker in workers if worker.alive()]

    def stop(self) -> None:
        """End all of it, gracefully as far as it goes along. The data stay."""
        for process in self._processes():
            process.stop(STOP_TIMEOUT)
        self.servers().stop()

    def purge(self) -> None:
        """End all of it, and remove it, whatever state it is in."""
        purge(self.base)

    def figures(self, servers: Servers | Trio) -> dict[str, Any]:
        """Return what runs, what waits, and what was served; None is what cannot be asked."""
        return {
            "running": servers.running,
            "page": page_url(self.base) if self.page.alive() else None,
            "page_as_operator": operators_url(self.base) if self.page.alive() else None,
            "workers": [worker.name for worker in self.workers()],
            **figures_of(servers),
        }


def figures_of(servers: Servers | Trio) -> dict[str, Any]:
    """Return what the servers say of themselves; None is what cannot be asked."""
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
    """Return the settings of whoever uses these servers."""
    return {
        "AMQP_URL": servers.rabbitmq.url(),
        "MYSQL_URL": servers.database.url(),
        "MANAGEMENT_URL": servers.rabbitmq.management_login(),
    }


def start_page(servers: Servers | Trio, base: Path, *, attached: bool) -> Process:
    """Start the page, without waiting for it: it shows how the rest comes up."""
    settings = environment(servers)
    note = _page_note(base)
    acting = {
        "DASHBOARD_OPERATOR_TOKEN": note["token"],
        "DASHBOARD_OPERATOR_MYSQL_URL": settings["MYSQL_URL"],
        "DASHBOARD_OPERATOR_AMQP_URL": settings["AMQP_URL"],
    }
    return commands.start_dashboard(base, settings | acting, note["port"], attached=attached)


def page_url(base: Path) -> str:
    """Return the page's address, where everybody on this machine may look."""
    return f"http://127.0.0.1:{_page_note(base)['port']}/"


def operators_url(base: Path) -> str:
    """Return an address that logs in whoever opens it, so that they may act."""
    return f"{page_url(base)}login#token={_page_note(base)['token']}"


def _page_note(base: Path) -> dict[str, Any]:
    """Return the page's port and token, the same as long as the folder is there."""
    note = base / "dashboard.json"
    known = json.loads(note.read_text()) if note.exists() else {}
    if not {"port", "token"} <= known.keys():
        known = {"port": free_port(), "token": secrets.token_urlsafe(24)} | known
        files.write(note, json.dumps(known))
    return dict(known)
