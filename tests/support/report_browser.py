"""Headless Chromium for the report's tests."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip

VIEWS = ("health", "curves", "maps", "groups", "setup")
"""The report's, as its addresses name them."""


def start_browser(profile: Path) -> webdriver.Chrome:
    """Chromium with an empty profile; skips the test where Chromium or its driver is not installed."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("Chromium or chromedriver is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


class Page:
    """A report in the browser."""

    def __init__(self, driver: webdriver.Chrome, report: Path) -> None:
        self.driver = driver
        self.url = report.resolve().as_uri()

    def open(self, address: str = "", width: int = 1280, height: int = 900, theme: str = "light") -> "Page":
        """Load the page afresh at `address` (its fragment) and wait until it is ready."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")
        self.console()
        self.requests()
        self.driver.get(self.url + address)
        self.wait("return document.documentElement.dataset.ready === 'true'")
        return self

    def go(self, address: str) -> None:
        """Follow a link of the open page to `address` and wait until its view, plots included, is there."""
        self.js("location.hash = arguments[0]", address)
        view = address.lstrip("#").split("?")[0]
        self.wait("return !document.getElementById(arguments[0]).hidden", f"view-{view}")
        if self.all(f"#view-{view} .plot"):
            self.wait("return document.querySelector('.view:not([hidden]) .plot .main-svg')")
        if "token=" in address:
            self.wait("return document.querySelector('#inspector [data-field=value]')")

    def wait(self, script: str, *arguments: Any, seconds: float = 20.0) -> Any:
        """Poll until the script returns something true."""
        end = time.monotonic() + seconds
        while not (found := self.js(script, *arguments)):
            if time.monotonic() > end:
                raise AssertionError(f"still not true after {seconds} s: {script}")
            time.sleep(0.03)
        return found

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def console(self) -> list[str]:
        """Console messages since the last call, warnings and errors of the page itself."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses requested since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def token_shown(self) -> dict[str, float]:
        """The numbers of the token panel, by field."""
        fields = self.all("#inspector [data-value]")
        shown = [(field.get_attribute("data-field"), field.get_attribute("data-value")) for field in fields]
        return {name: float(value) for name, value in shown if value}
