"""A cluster of three RabbitMQ nodes on loopback that can be partitioned from each other."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.harness import packages
from lab.harness.process import Process, free_port
from lab.harness.rabbitmq import VIRTUAL_HOST, PrivateRabbitMQ, RabbitMQ

NAMES = ("one", "two", "three")


class Cluster:
    """The nodes of one cluster, sharing an epmd, a cookie and a password."""

    def __init__(self, folder: Path, programs: Path) -> None:
        of_rabbitmq, _ = packages.find(programs)
        epmd_port, password = free_port(), secrets.token_urlsafe(18)
        cookie = secrets.token_hex(16).upper()
        self.nodes: dict[str, RabbitMQ] = {}
        self._epmd: Process | None = None
        for name in NAMES:
            base = folder / name / "rabbitmq"
            base.mkdir(parents=True)
            ports = ("port", "management_port", "distribution_port")
            settings = {port: free_port() for port in ports}
            settings |= {"epmd_port": epmd_port}
            (base / "settings.json").write_text(json.dumps({**settings, "password": password}))
            (base / ".erlang.cookie").write_text(cookie)
            (base / ".erlang.cookie").chmod(0o400)
            node = PrivateRabbitMQ(folder / name)
            node.equip(of_rabbitmq)
            # The node, its rabbitmqctl and epmd share one environment.
            environment = node.epmd.environment
            assert isinstance(environment, dict)
            environment["RABBITMQ_NODENAME"] = f"{name}@localhost"
            self.nodes[name] = node
            self._epmd = self._epmd or node.epmd

    def start(self) -> None:
        """Start all nodes, and join them to the first."""
        assert self._epmd is not None
        self._epmd.start()
        for node in self.nodes.values():
            node.runner.start()
        first, *others = self.nodes.values()
        for node in self.nodes.values():
            node.wait_ready()
        for node in others:
            for words in (
                ["stop_app"],
                ["reset"],
                ["join_cluster", "one@localhost"],
                ["start_app"],
            ):
                node.ctl(*words)
            node.wait_ready()
        first.ctl("await_online_nodes", str(len(NAMES)))

    def url(self, *names: str, vhost: str = VIRTUAL_HOST) -> str:
        """Return an AMQP_URL of the given nodes, or of all of them."""
        return ",".join(self.nodes[name].url(vhost) for name in names or NAMES)

    def leader(self, queue: str = "requests") -> str:
        """Return the node that leads a queue."""
        words = ["list_queues", "-p", VIRTUAL_HOST, "name", "leader", "--no-table-headers"]
        for node in self.nodes.values():
            if node.runner.alive():
                for line in node.ctl(*words).splitlines():
                    name, _, leader = line.partition("\t")
                    if name == queue:
                        return leader.partition("@")[0]
        raise AssertionError(f"no queue {queue}")

    def cut_off(self, name: str) -> None:
        """Cut a node off from the others: each side requires a cookie that the other lacks."""
        others = set(NAMES) - {name}
        self._everywhere(
            {
                here: " ".join(
                    f"erlang:set_cookie('{there}@localhost', without_{here}), "
                    f"erlang:disconnect_node('{there}@localhost'),"
                    for there in (others if here == name else {name})
                )
                for here in NAMES
            }
        )

    def join(self) -> None:
        """Reconnect all nodes."""
        self._everywhere(
            {
                here: " ".join(
                    f"erlang:set_cookie('{there}@localhost', erlang:get_cookie()),"
                    for there in set(NAMES) - {here}
                )
                for here in NAMES
            }
        )

    def remove(self) -> None:
        """Stop all nodes."""
        for node in self.nodes.values():
            node.runner.resume()
            node.runner.kill()
        assert self._epmd is not None
        self._epmd.kill()

    def _everywhere(self, expressions: dict[str, str]) -> None:
        with ThreadPoolExecutor() as pool:
            list(
                pool.map(
                    lambda each: self.nodes[each[0]].ctl("eval", f"{each[1]} ok."),
                    expressions.items(),
                )
            )
