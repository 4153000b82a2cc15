"""Which messages, on which brokers, a worker dead-letters itself."""

from __future__ import annotations

import pytest

from worker.apart import is_needed


@pytest.mark.parametrize("version", ["3.10.8", "3.13.7", "", "unknown"])
def test_an_old_or_unknown_broker_is_spared_a_forged_header(version: str) -> None:
    assert is_needed(version)


@pytest.mark.parametrize("version", ["4.0.0", "4.3.6", "4.1.0-rc.1", "10.0.1"])
def test_a_newer_broker_dead_letters_it_as_any_other(version: str) -> None:
    assert not is_needed(version)
