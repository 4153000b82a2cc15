"""A real browser for the tests: headless Chromium, and a record of its requests and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from lab.harness import tools
from lab.harness.process import wait_until
from lab.harness.servers import DEFAULT_FOLDER
from tests.requirements import or_skip

TIMEOUT = 60.0

FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium's sandbox does not run as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    # The TLS pages of the tests have certificates of their own.
    "--ignore-certificate-errors",
)


class Browser:
    """One page in it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        # Leave the previous page, and discard its errors and requests.
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        self.driver.get(url)

    def js(self, expression: str, *arguments: object) -> Any:
        return self.driver.execute_script(f"return {expression}", *arguments)

    def wait(self, expression: str, *arguments: object) -> None:
        """Wait until a JavaScript expression is true."""
        wait_until(lambda: self.js(expression, *arguments), expression, TIMEOUT, interval=0.1)

    def text(self, selector: str) -> str:
        return str(self.js("document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        return list(
            self.js(
                "[...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
            )
        )

    def errors(self) -> list[str]:
        """Return the errors in its console."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]

    def asked(self) -> list[str]:
        """Return the addresses that the page has requested."""
        messages = (json.loads(e["message"]) for e in self.driver.get_log("performance"))
        return [
            message["message"]["params"]["request"]["url"]
            for message in messages
            if message["message"]["method"] == "Network.requestWillBeSent"
        ]


def start(profile: Path) -> Iterator[Browser]:
    chromium = or_skip(lambda: tools.chromium(DEFAULT_FOLDER / "tools"))
    options = Options()
    options.binary_location = str(chromium.browser)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(str(chromium.driver), env=chromium.environment)
    driver_of_it = Chrome(options=options, service=service)
    try:
        yield Browser(driver_of_it)
    finally:
        driver_of_it.quit()
