"""Real servers for the tests that need them, and a separate pipeline for each such test."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lab.harness.errors import LabError
from lab.harness.servers import DEFAULT_FOLDER, Servers
from tests import browser as browsers
from tests.browser import Browser
from tests.pipeline import Pipeline
from tests.shop import Shop
from turnwise.database import Connection, parse_url

# A shared machine is slow at times, which is not a failure.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# CI has the time to look further; so has --hypothesis-profile=ci.
settings.register_profile("ci", settings.get_profile("here"), max_examples=300, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--containers",
        action="store_true",
        help="Use RabbitMQ and MySQL of the newest releases, in Docker containers.",
    )


# They mostly wait. Started last, one of them would keep a single process busy at the end.
LONG = (
    "test_three_nodes",
    "test_relay_step_by_step",
    "test_tutorial",
    "test_relay",
    "test_cluster",
    "test_lab",
    "test_trial_of_ones_own",
    "test_demo",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need servers or a browser, so that ``-m "not servers"`` deselects them.

    Files that take minutes come first.
    """
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    for item in items:
        for need, fixture in (("servers", "servers"), ("browser", "chromium")):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(need)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Private servers for the whole run."""
    folder = DEFAULT_FOLDER / f"test-{os.getpid()}"
    try:
        servers = Servers(
            folder,
            DEFAULT_FOLDER / "packages",
            in_containers=request.config.getoption("--containers"),
        )
        servers.start()
    except LabError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no servers: {error}")
    yield servers
    servers.remove()


@pytest.fixture
def pipeline(servers: Servers, tmp_path: Path) -> Iterator[Pipeline]:
    """A pipeline on the test's own vhost and schema."""
    with Pipeline(servers, f"test-{uuid.uuid4().hex[:12]}", tmp_path) as pipeline:
        yield pipeline


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from browsers.start(tmp_path_factory.mktemp("profile"))


@pytest.fixture
def browser(chromium: Browser, pipeline: Pipeline) -> Iterator[Browser]:  # noqa: ARG001 - outlives it
    """A browser that must end without an error or a request to another host.

    It leaves the page before the pipeline ends: a page whose server is gone complains.
    """
    yield chromium
    assert chromium.errors() == []
    origin = chromium.js("location.origin")
    asked = chromium.asked()
    assert [url for url in asked if url.startswith(f"{origin}/")]
    assert [url for url in asked if not url.startswith((f"{origin}/", "data:", "about:"))] == []
    chromium.driver.get("about:blank")


@pytest.fixture
def shop(pipeline: Pipeline) -> Shop:
    """A pipeline whose workers serve by a handler."""
    return Shop(pipeline)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of a failed test's processes."""
    report = yield
    pipeline = item.funcargs.get("pipeline")
    if call.when == "call" and report.failed and isinstance(pipeline, Pipeline):
        report.sections.append(("Processes", pipeline.logs()))
    return report


@pytest.fixture
def connect(pipeline: Pipeline) -> Iterator[Callable[[], Connection]]:
    """Return a function that connects to the pipeline's database, which has its tables."""
    pipeline.run("worker", "migrate")
    with contextlib.ExitStack() as stack:

        def connect() -> Connection:
            connection = parse_url(pipeline.mysql_url).connect("test")
            return stack.enter_context(contextlib.closing(connection))

        yield connect
