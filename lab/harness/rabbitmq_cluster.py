"""Three RabbitMQ nodes in one cluster, each at a loopback address of its own."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.harness import files
from lab.harness.errors import LabError
from lab.harness.packages import Programs
from lab.harness.rabbitmq import PrivateRabbitMQ

NODES = 3

NET_TICK = 8
"""Seconds of silence after which a node considers another one down: short, for trials."""

_CONFIG = """\
cluster_name = turnwise-lab
cluster_formation.peer_discovery_backend = classic_config
{nodes}
# A node in the minority stops serving, and rejoins by itself.
cluster_partition_handling = pause_minority
"""


_GROW = """rabbit_quorum_queue:grow('{node}', <<".*">>, <<".*">>, all)."""
"""The expression behind ``rabbitmq-queues grow NODE all``."""


class ClusterNode(PrivateRabbitMQ):
    """One of several nodes. Clients reach it on loopback as usual, its peers at ``host``."""

    def __init__(self, folder: Path, number: int, hosts: Sequence[str], **more: Any) -> None:
        super().__init__(folder, f"rabbitmq-{number}", **more)
        self.number = number
        self.api_timeout = 2.0  # one of several is often away
        self.host = hosts[number - 1]
        """The loopback address at which its peers reach it, and from which it connects to them."""
        self.nodename = f"turnwise-{number}@node-{number}"
        self._hosts = hosts
        self._folder = folder

    def equip(self, programs: Programs) -> None:
        """Set the programs to run, and write their configuration."""
        names = self._base / "hosts.erl"
        hosts = "".join(
            f'{{host, {{{host.replace(".", ",")}}}, ["node-{n}"]}}.\n'
            for n, host in enumerate(self._hosts, 1)
        )
        files.write(names, f"{hosts}{{lookup, [file, native]}}.\n")
        cookie = self._folder / "erlang.cookie"
        if not cookie.exists():
            files.write(cookie, secrets.token_hex(16))
        files.write(self._base / ".erlang.cookie", cookie.read_text(), 0o400)
        super().equip(programs)
        self.epmd.command = [*self.epmd.command[:-1], ",".join(["127.0.0.1", *self._hosts])]

    def join(self, other: ClusterNode) -> None:
        """Use another node's login and name server."""
        for name in ("password", "epmd_port"):
            self._settings[name] = other._settings[name]
        self.password = other.password

    def wipe(self) -> None:
        """Delete the node's data, but not its configuration."""
        shutil.rmtree(self._base / "data")

    def configure(self, *, alone: bool) -> None:
        """Make the next start look for its peers, or (``alone``) know of none."""
        config, peers = self._base / "rabbitmq.conf", self._more_config()
        text = config.read_text().replace(peers, "")
        files.write(config, text if alone else text + peers)

    def forget(self, other: ClusterNode) -> None:
        """Remove a node and its queue members from the cluster. Raises LabError."""
        self.ctl("forget_cluster_node", other.nodename)

    def grow(self, other: ClusterNode) -> None:
        """Give a node a member of each quorum queue. Raises LabError."""
        self.ctl("eval", _GROW.format(node=other.nodename))

    def running_peers(self) -> list[str]:
        """Return the names of the nodes that this one sees running; none if it does not answer."""
        try:
            return [node["name"] for node in self.api("GET", "nodes") if node.get("running")]
        except LabError:
            return []

    def _more_config(self) -> str:
        nodes = "\n".join(
            f"cluster_formation.classic_config.nodes.{n} = turnwise-{n}@node-{n}"
            for n in range(1, len(self._hosts) + 1)
        )
        return _CONFIG.format(nodes=nodes)

    def _more_environment(self) -> dict[str, str]:
        at = "{" + self.host.replace(".", ",") + "}"
        return {
            "RABBITMQ_NODENAME": self.nodename,
            "ERL_INETRC": str(self._base / "hosts.erl"),
            # The node listens at its own address and connects from it: its links can be cut.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-kernel inet_dist_use_interface {at} "
                f"-kernel inet_dist_connect_options [{{ip,{at}}}] "
                f"-kernel net_ticktime {NET_TICK}"
            ),
        }
