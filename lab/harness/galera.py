"""Three MariaDB nodes that replicate synchronously (Galera)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pymysql

from lab.harness import files
from lab.harness.database import PrivateDatabase
from lab.harness.errors import LabError
from lab.harness.packages import Programs
from lab.harness.process import Process, free_port

SUSPECT_TIMEOUT = 3
"""Seconds of silence after which the others continue without a node: short, for trials."""

_POSITION = re.compile(r"Recovered position:\s*([0-9a-f-]{36}):(-?\d+)")

_RECOVERY_TIMEOUT = 60.0

_STATE = """
    SELECT variable_value FROM information_schema.global_status
    WHERE variable_name IN ('WSREP_CLUSTER_STATUS', 'WSREP_LOCAL_STATE_COMMENT', 'WSREP_READY')
    ORDER BY variable_name
"""


_TRANSFER = """\
#!/bin/sh
# What MariaDB runs at both ends when a node joins. The data were copied when the node was made, and
# what it lacks comes from a peer's cache: there is only the word to hand over from where.
set -eu
while [ $# -gt 0 ] && [ "$1" != --mysqld-args ]; do
    case $1 in
        --role) role=$2 ;;
        --address) address=$2 ;;
        --parent) parent=$2 ;;
        --gtid) gtid=$2 ;;
        --bypass) bypass=1 ;;
    esac
    shift
done
if [ "$role" = joiner ]; then
    mkdir -p "$LAB_HANDOVER"
    rm -f "$LAB_HANDOVER/word"
    echo "ready $address/$LAB_HANDOVER"
    until [ -e "$LAB_HANDOVER/word" ]; do
        kill -0 "$parent"
        sleep 0.1
    done
    cat "$LAB_HANDOVER/word"
else
    # A node whose data are too old would need a copy of all.
    [ -n "${bypass:-}" ] || exit 1
    folder=/${address#*//}
    echo continue
    echo "$gtid" >"$folder/word.new"
    mv "$folder/word.new" "$folder/word"
    echo "done $gtid"
fi
"""


class GaleraProcess(Process):
    """A server that starts from its own data, and gets the transactions it lacks from its peers."""

    server: Sequence[str | Path] = ()
    """The command line without the starting position."""
    first = False
    """Whether the next start forms a new cluster, of this node alone."""

    def position(self) -> tuple[str, int]:
        """Return the history that the data belongs to, and its last transaction."""
        result = subprocess.run(
            [*map(str, self.server), "--wsrep-recover"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=_RECOVERY_TIMEOUT,
            check=False,
        )
        found = _POSITION.findall(result.stdout + result.stderr)
        if not found:
            raise LabError(f"{self.name} cannot recover its position:\n{result.stderr[-2000:]}")
        return found[-1][0], int(found[-1][1])

    def start(self) -> None:
        """Start the node; with ``first``, as a cluster of its own."""
        history, last = self.position()
        more = ["--wsrep-new-cluster"] if self.first else []
        self.command = [*self.server, f"--wsrep-start-position={history}:{last}", *more]
        super().start()
        self.first = False


class GaleraNode(PrivateDatabase):
    """One of several nodes. ``hosts``: the loopback addresses at which they reach each other."""

    def __init__(
        self, folder: Path, number: int, hosts: Sequence[str], *, attached: bool = True
    ) -> None:
        super().__init__(folder, f"database-{number}", attached=attached)
        self.number = number
        self._folder = folder.resolve()
        self._hosts = hosts
        note = folder / "galera.json"
        if not note.exists():
            files.write(note, json.dumps({name: free_port() for name in ("port", "transfer")}))
        self.provider = Path()
        """The path of Galera's shared object."""
        self._ports: dict[str, int] = json.loads(note.read_text())
        self.process = GaleraProcess(f"database-{number}", self._base, [], attached=attached)
        self.runner = self._process = self.process

    def join(self, other: GaleraNode) -> None:
        """Use another node's login."""
        self.password = other.password

    def equip(self, programs: Programs) -> None:
        """Set the programs to run. ``provider`` must be set before."""
        super().equip(programs)
        script = self._folder / "wsrep_sst_lab"
        files.write(script, _TRANSFER, 0o700)
        self.process.environment = {
            **self.process.environment,
            "PATH": f"{self._folder}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LAB_HANDOVER": str(self._base / "handover"),
        }
        host, port = self._hosts[self.number - 1], self._ports["port"]
        peers = ",".join(f"{each}:{port}" for each in self._hosts)
        provider = ";".join(
            [
                f"gmcast.listen_addr=tcp://{host}:{port}",
                f"ist.recv_addr={host}:{self._ports['transfer']}",
                f"evs.suspect_timeout=PT{SUSPECT_TIMEOUT}S",
                f"evs.inactive_timeout=PT{3 * SUSPECT_TIMEOUT}S",
                "gcache.size=64M",
            ]
        )
        self.process.server = [
            *self.process.command,
            "--wsrep-on=ON",
            f"--wsrep-provider={self.provider}",
            "--wsrep-cluster-name=turnwise-lab",
            f"--wsrep-cluster-address=gcomm://{peers}",
            f"--wsrep-node-address={host}",
            f"--wsrep-node-name=database-{self.number}",
            f"--wsrep-provider-options={provider}",
            "--wsrep-sst-method=lab",
            f"--wsrep-sst-receive-address={host}:{self._ports['transfer']}",
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
        ]

    @property
    def has_data(self) -> bool:
        """Whether its data was created."""
        return (self._base / "data").exists()

    def begin(self) -> None:
        """Make the next start form a new cluster, whatever state the last one left."""
        self.process.first = True
        state = self._base / "data" / "grastate.dat"
        if state.exists():
            text = state.read_text()
            files.write(state, text.replace("safe_to_bootstrap: 0", "safe_to_bootstrap: 1"))

    def copy(self, other: GaleraNode) -> None:
        """Copy the data of another node, which must be down."""
        data = self._base / "data"
        if data.exists():
            return
        (self._base / "tmp").mkdir(exist_ok=True)
        new = self._base / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(
            other._base / "data", new, ignore=shutil.ignore_patterns("galera.cache", "*.sock")
        )
        new.rename(data)

    @property
    def whole(self) -> bool:
        """Whether the node belongs to the primary component and is in sync."""
        try:
            with self.connect(timeout=1) as cursor:
                cursor.execute(_STATE)
                return [value for (value,) in cursor.fetchall()] == ["Primary", "Synced", "ON"]
        except (pymysql.Error, OSError):
            return False
