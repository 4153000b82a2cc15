"""Unit tests need no server: a test that requests one is in the wrong folder."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def servers() -> None:
    pytest.fail("A test that needs servers belongs in tests/integration.")
