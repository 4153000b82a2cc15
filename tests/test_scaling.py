"""What 'kubectl scale' does to the pipeline: processes started, and ended by SIGTERM."""

from __future__ import annotations

import itertools
import signal

from lab.process import Process
from tests.pipeline import Pipeline


def test_scaling_up_and_down_under_load_loses_and_repeats_nothing(pipeline: Pipeline) -> None:
    sender = pipeline.start("producer", "producer", "send", "load", "--quantum", "5ms")
    numbers = itertools.count(1)
    replicas: list[Process] = []
    for wanted in (2, 5, 1, 4):
        while len(replicas) < wanted:
            replicas.append(pipeline.worker(f"worker-{next(numbers)}"))
        leaving, replicas = replicas[wanted:], replicas[:wanted]
        for worker in leaving:
            worker.signal(signal.SIGTERM)
        assert [worker.wait(60) for worker in leaving] == [0] * len(leaving)
        seen, names = pipeline.served(), {worker.name for worker in replicas}

        def all_had_a_turn(seen: int = seen, names: set[str] = names) -> bool:
            return {row.served_by for row in pipeline.rows()[seen:]} >= names

        pipeline.wait(all_had_a_turn, "a turn of each that is left")
    sender.signal(signal.SIGTERM)
    sender.wait(60)
    pipeline.run("producer", "flush")
    accepted = pipeline.status()["accepted"]
    pipeline.wait_served(accepted)
    rows = pipeline.assert_exactly_once(pipeline.client(), accepted)
    assert {row.deliveries for row in rows} == {1}
