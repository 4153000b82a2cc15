"""What a test needs on the machine: fetched, or else the test is skipped, or fails in CI."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from lab.harness.packages import MissingServers

T = TypeVar("T")


def or_skip(find: Callable[[], T]) -> T:
    """Return what ``find`` finds; skip the test if it cannot be had here, and fail in CI."""
    try:
        return find()
    except MissingServers as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
