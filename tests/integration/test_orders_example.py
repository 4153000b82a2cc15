"""examples/orders: its tests pass, and its demo shows what its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.pipeline import Pipeline

ORDERS = Path(__file__).parents[2] / "examples" / "orders"


def test_the_tests_of_the_example_pass(pipeline: Pipeline) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest",
         "--rootdir", ORDERS, ORDERS],
        env={**os.environ, "ORDERS_MYSQL_URL": pipeline.mysql_url},
        cwd=ORDERS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"\b6 passed", result.stdout)


def test_the_demo_serves_three_of_five_orders(tmp_path: Path) -> None:
    """It starts its own servers in the test's folder, from packages already fetched."""
    packages = Path(".lab/packages").resolve()
    (tmp_path / "packages").symlink_to(packages)
    result = subprocess.run(
        [sys.executable, ORDERS / "demo.py"],
        env={**os.environ, "LAB_FOLDER": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing was ordered" in result.stdout
    assert "waits for pear" in result.stdout
    assert "('apple', 95)" in result.stdout
    assert "('pear', 0)" in result.stdout
    assert len(re.findall(r'\{"order": ', result.stdout)) == 3
    assert "down" in result.stdout
