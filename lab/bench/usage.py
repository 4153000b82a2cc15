"""Resources that processes and servers used, by their own counters."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lab.harness.process import Runner
from lab.harness.servers import Servers

_TICKS = os.sysconf("SC_CLK_TCK")

# The write-ahead log of the Raft log syncs once per batch; newer releases count only batches.
_BROKER_SYNCS = (
    "case ets:whereis(ra_io_metrics) of"
    " undefined -> maps:get(batches, maps:get(ra_log_wal, ra_counters:overview()));"
    " _ -> ets:lookup_element(ra_io_metrics, {io_sync, count}, 2) end."
)


def cpu_seconds(runner: Runner) -> float:
    """Return the CPU seconds that a process has used."""
    stat = Path(f"/proc/{_pid(runner)}/stat").read_text()
    # The name in parentheses may contain anything; utime and stime are fields 14 and 15.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_memory(pid: int) -> float | None:
    """Return a process's peak resident memory in MiB; None if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


@dataclass(frozen=True, slots=True)
class Fsyncs:
    """How often each server has synced its log to disk, by its own count."""

    database: int
    broker: int

    @classmethod
    def read(cls, servers: Servers) -> Self:
        """Read both servers' counts."""
        [(_, count)] = servers.database.query("SHOW GLOBAL STATUS LIKE 'Innodb_data_fsyncs'")
        return cls(int(count), int(servers.rabbitmq.ctl("eval", _BROKER_SYNCS)))

    def __sub__(self, other: Self) -> Fsyncs:
        return Fsyncs(self.database - other.database, self.broker - other.broker)


def _pid(runner: Runner) -> int:
    return int(runner.identity().partition("@")[0])
