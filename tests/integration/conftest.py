"""What the tests here share."""

import pytest
from report_browser import start_browser


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """One headless Chromium for all pages; whoever opens one sets its size and theme."""
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()
