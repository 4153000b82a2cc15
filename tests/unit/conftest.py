"""A unit test needs no server: a test that asks for one stands in the wrong folder."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def servers() -> None:
    pytest.fail("A test that needs servers belongs in tests/integration.")
