"""The overlays, rendered once."""

from __future__ import annotations

import pytest

from tests.kubernetes.manifests import Overlay, render_all


@pytest.fixture(scope="session")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Overlay]:
    return render_all(tmp_path_factory.mktemp("rendered"))
