"""What a database's settings imply for a fail-over."""

from __future__ import annotations

import pytest

from worker.replication import LONG_ENOUGH, doubts

MARIADB = {
    "rpl_semi_sync_master_enabled": "ON",
    "rpl_semi_sync_master_status": "ON",
    "rpl_semi_sync_master_wait_point": "AFTER_SYNC",
    "rpl_semi_sync_master_timeout": str(2**32),
    "replicas": "1",
}
MYSQL = {name.replace("master", "source"): value for name, value in MARIADB.items()}


@pytest.mark.parametrize("said", [MARIADB, MYSQL, {}, {"replicas": "0"}])
def test_without_a_replica_or_with_one_that_is_waited_for_nothing_is_in_doubt(
    said: dict[str, str],
) -> None:
    assert not list(doubts(said))


def test_a_server_not_known_to_have_replicas_gives_no_warning() -> None:
    assert not list(doubts({**MARIADB, "rpl_semi_sync_master_enabled": "OFF", "replicas": "0"}))


@pytest.mark.parametrize("said", [MARIADB, MYSQL])
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("enabled", "OFF", "does not wait for its replicas"),
        ("status", "OFF", "has stopped waiting"),
        ("wait_point", "AFTER_COMMIT", "AFTER_SYNC"),
        ("timeout", "10000", "after 10 s"),
        ("timeout", str(LONG_ENOUGH - 1), f"to {LONG_ENOUGH} ms"),
    ],
)
def test_each_setting_that_lets_a_fail_over_lose_rows_is_named(
    said: dict[str, str], name: str, value: str, reason: str
) -> None:
    [full] = [each for each in said if each.endswith(f"_{name}")]
    [found] = doubts({**said, full: value})
    assert reason in found


def test_replicas_without_the_plugin_are_detected() -> None:
    [found] = doubts({"replicas": "2"})
    assert "semi_sync" in found
