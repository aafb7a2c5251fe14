"""The page of a sweep in a real browser: two widths, two themes, every curve by keyboard, nothing fetched."""

import os
from pathlib import Path

import pytest
from report_browser import Page
from selenium.webdriver.common.keys import Keys
from sweep_outcomes import SWEEP, outcomes

from openrlhf_ktae.report.sweep_page import make_page
from openrlhf_ktae.sweep.comparison import compare

pytestmark = pytest.mark.browser


@pytest.fixture
def page(driver, tmp_path):
    found = outcomes()
    file = tmp_path / "sweep.html"
    file.write_text(make_page("made-up", SWEEP, {"notes": []}, found, compare(found, SWEEP)))
    return Page(driver, file)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_two_widths_in_light_and_dark(page, width, theme):
    page.open(width=width, theme=theme)
    assert page.js("return document.documentElement.scrollWidth") <= width
    colour = page.js("return getComputedStyle(document.body).backgroundColor")
    assert colour == {"light": "rgb(247, 247, 245)", "dark": "rgb(17, 19, 23)"}[theme]
    smallest = page.js(
        "return Math.min(...[...document.querySelectorAll('.figures .figure')].map(f => "
        "11 * f.getBoundingClientRect().width / f.viewBox.baseVal.width))"
    )
    assert smallest > 8.5  # pixels of the smallest letters
    decorated = "e => !getComputedStyle(e).textDecorationLine.includes('none')"
    assert page.js(f"return [...document.querySelectorAll('.figure *')].filter({decorated}).length") == 0
    assert page.console() == [] and [url for url in page.requests() if not url.startswith(("file:", "data:"))] == []
    if folder := os.environ.get("OPENRLHF_KTAE_SCREENSHOTS"):
        page.driver.save_screenshot(str(Path(folder) / f"sweep-{width}-{theme}.png"))


def test_every_curve_and_row_is_reached_by_the_keyboard_and_stands_out(page):
    page.open()
    reached = []
    for _ in range(60):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        if page.js("return document.activeElement.classList.contains('item')"):
            label = page.js("return document.activeElement.getAttribute('aria-label')")
            if label in reached[:1]:  # round again
                break
            reached.append(label)
            other = "document.activeElement.parentElement.querySelector('.item:not(:focus)')"
            assert float(page.js(f"return getComputedStyle({other}).opacity")) < 0.5
    assert len(reached) == page.js("return document.querySelectorAll('.item').length") == 4 * 2 + 3 * 3
    assert reached[0].startswith("grpo: step 0 0.470 (")


def test_the_button_changes_the_theme(page):
    page.open(theme="light")
    before = page.js("return getComputedStyle(document.body).backgroundColor")
    page.one("#theme").click()
    assert page.js("return getComputedStyle(document.body).backgroundColor") != before
    page.js("localStorage.clear()")
