"""The comparison's page in a real browser: tables, plots with intervals, nothing fetched."""

import os
import random
from pathlib import Path

import pytest
from eval_files import make_result
from hostile_texts import TEXTS, comparison_of, report_of
from report_browser import Page
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from eval.compare import compare
from eval.page import write_page

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def window(driver):
    """Wide enough for tables and plots side by side."""
    shot = {"width": 1200, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shot)


def show(driver, page, plots):
    driver.get(page.resolve().as_uri())
    script = "return document.querySelectorAll('.plot .main-svg').length"
    WebDriverWait(driver, 30).until(lambda d: d.execute_script(script) >= plots)
    if folder := os.environ.get("OPENRLHF_KTAE_SCREENSHOTS"):
        height = driver.execute_script("return document.documentElement.scrollHeight")
        shot = {"width": 1200, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shot)
        driver.save_screenshot(str(Path(folder) / f"{page.stem}.png"))


def cells(driver, section):
    rows = driver.find_elements(By.CSS_SELECTOR, f"#{section} tbody tr")
    return {row.find_elements(By.TAG_NAME, "td")[0].text: [td.text for td in row.find_elements(By.TAG_NAME, "td")[1:]]
            for row in rows}  # fmt: skip


def bars(driver, section):
    return driver.execute_script(f"return document.querySelectorAll('#plot-{section} .yerror').length")


def test_two_published_models_show_averages_and_intervals(driver, tmp_path):
    page = write_page(compare(["GRPO_1.5B", "DAPO+KTAE_1.5B"]), tmp_path / "published.html")
    show(driver, page, plots=2)
    rows = cells(driver, "accuracy")
    assert list(rows) == ["GRPO_1.5B", "DAPO+KTAE_1.5B"]
    assert rows["GRPO_1.5B"][-1].startswith("40.6 [") and rows["DAPO+KTAE_1.5B"][-1].startswith("43.4 [")
    assert bars(driver, "accuracy") == 12  # two models, five tasks and the average
    ticks = [tick.text for tick in driver.find_elements(By.CSS_SELECTOR, "#plot-accuracy .xtick text")]
    assert ticks == ["AIME 2024", "AMC 2023", "MATH-500", "Minerva Math", "OlympiadBench", "Average"]
    legend = [entry.text for entry in driver.find_elements(By.CSS_SELECTOR, "#plot-accuracy .legendtext")]
    assert legend == ["GRPO_1.5B", "DAPO+KTAE_1.5B"]
    assert "no paired test" in driver.find_element(By.CSS_SELECTOR, "ul.notes").text
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_paired_differences_are_plotted_and_names_are_only_text(driver, tmp_path):
    rng = random.Random(0)
    names = ["before", "<b>after</b> & more"]
    folders = [
        make_result(tmp_path / name.replace("/", "∕"), [rng.random() < share for _ in range(200)])
        for name, share in zip(names, (0.4, 0.6), strict=True)
    ]
    page = write_page(compare(folders), tmp_path / "paired.html")
    show(driver, page, plots=3)
    assert bars(driver, "differences") == 2
    (label,) = cells(driver, "differences")
    assert label == "<b>after<∕b> & more"
    assert "p < 0.001" in cells(driver, "differences")[label][0]
    assert driver.find_elements(By.CSS_SELECTOR, "td b, h1 b") == []


def test_on_a_phone_every_task_keeps_its_label_and_no_toolbar_covers_the_legend(driver, tmp_path):
    page = write_page(compare(["GRPO_1.5B", "DAPO+KTAE_1.5B"]), tmp_path / "phone.html")
    phone = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    show(driver, page, plots=2)
    labels = driver.find_elements(By.CSS_SELECTOR, "#plot-accuracy .xtick text")
    shown = {label.text: label.rect for label in labels if label.is_displayed()}
    assert list(shown) == ["AIME 2024", "AMC 2023", "MATH-500", "Minerva Math", "OlympiadBench", "Average"]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in shown.values())
    assert not driver.find_elements(By.CSS_SELECTOR, ".modebar-btn")


def test_2000_hostile_texts_run_nothing_in_a_browser(driver, tmp_path):
    def nothing_ran(page):
        assert driver.execute_script("return typeof window.owned") == "undefined"
        assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
        assert driver.current_url.split("#")[0] == page.resolve().as_uri()
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []

    page = report_of(tmp_path / "run", TEXTS)
    for group in (0, 12, 24):
        shown = Page(driver, page).open(f"#maps?run=0&step=1&group={group}")
        shown.wait("return document.querySelector('#rollouts').textContent.includes('owned')")
        nothing_ran(page)
    page = comparison_of(tmp_path / "results", TEXTS)
    show(driver, page, plots=3)
    nothing_ran(page)
