"""The overlays, rendered once."""

from __future__ import annotations

import pytest

from tests.kubernetes.manifests import OVERLAYS, Overlay, render_all


@pytest.fixture(scope="session")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Overlay]:
    return render_all(tmp_path_factory.mktemp("rendered"))


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, overlays: dict[str, Overlay]) -> Overlay:
    return overlays[request.param]
