"""The report in headless Chromium: what a reader sees, hovers, types, and what a hostile rollout cannot do."""

import json
from collections import Counter
from math import asin, exp, sqrt
from pathlib import Path

import pytest
from axe_core_python.selenium import Axe
from ktae_oracle import fisher_p, information_gain, key_token_value
from report_browser import VIEWS, Page
from report_runs import HOSTILE, group_rows, write_run
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import Select

from openrlhf_ktae.advantage import KtaeConfig
from openrlhf_ktae.report import write_report
from openrlhf_ktae.run_folder import VOCABULARY_FILE, read_vocabulary

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(
        tmp_path_factory.mktemp("browser") / "run", steps=20, rollout_steps=(10, 20), groups=3, size=6, tokens=70
    )


@pytest.fixture
def page(driver, run) -> Page:
    report = run / "report.html"
    return Page(driver, report if report.exists() else write_report([run]))


def oracle_numbers(rows: list[dict], token: int) -> dict[str, float]:
    """What the page must show for a token: counted here from the rollouts, formulas from the oracle."""
    good, bad = ([r["token_ids"] for r in rows if r["correct"] is side] for side in (True, False))
    a, b = sum(token in ids for ids in good), sum(token in ids for ids in bad)
    m_c, m_w = sum(Counter(ids)[token] for ids in good), sum(Counter(ids)[token] for ids in bad)
    value = key_token_value(KtaeConfig(), len(good), len(bad), a, b, m_c, m_w, sum(map(len, good)), sum(map(len, bad)))
    return {
        "a": a, "b": b, "c": len(good) - a, "d": len(bad) - b, "m_c": m_c, "m_w": m_w,
        "fisher_p": float(fisher_p(len(good), len(bad), a, b)),
        "information_gain_bits": information_gain(len(good), len(bad), a, b),
        "cohens_h": asin(sqrt(a / len(good))) - asin(sqrt(b / len(bad))), "value": value,
    }  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_loads_without_console_message_request_or_sideways_scroll(page, theme, width):
    for view in VIEWS:
        page.open(f"#{view}", width=width, theme=theme)
        assert page.js("return [...document.querySelectorAll('.view:not([hidden])')].map(v => v.id)") == [
            f"view-{view}"
        ]
        if view in ("curves", "groups"):
            page.wait("return document.querySelector('.view:not([hidden]) .plot .main-svg')")
        assert page.console() == []
        assert [url for url in page.requests() if not url.startswith(("file:", "data:", "blob:"))] == []
        assert page.js("return document.documentElement.scrollWidth <= innerWidth")


def test_hovering_a_token_shows_the_oracles_numbers_and_marks_it_everywhere(page, run):
    page.open("#maps?run=0&step=20&group=1")
    rows = group_rows(run, 20, 1)
    seen = set()
    for element in page.all(".rollout:first-child .tok")[:60:3]:
        ActionChains(page.driver).move_to_element(element).perform()
        card, position = (int(part) for part in element.get_attribute("id").split("-")[1:])
        order = sorted(rows, key=lambda r: (not r["correct"], r["rollout"]))
        token = order[card]["token_ids"][position]
        shown = page.token_shown()
        expected = oracle_numbers(rows, token)
        for field, number in expected.items():
            assert shown[field] == pytest.approx(number, abs=2e-6, rel=2e-5), (
                field,
                order[card]["token_ids"][position],
            )
        assert shown["advantage"] == pytest.approx(order[card]["advantage"][position], abs=1e-4)
        assert shown["probability"] == pytest.approx(exp(order[card]["log_prob"][position]), rel=0.006)
        marked = page.js(
            "return [...document.querySelectorAll('.tok')].map(t => [t.dataset.t, getComputedStyle(t).outlineStyle])"
        )
        same = element.get_attribute("data-t")
        assert {t for t, style in marked if style == "solid"} == {same}
        assert all(style == "solid" for t, style in marked if t == same)
        seen.add(token)
    assert len(seen) > 8


def test_map_text_is_the_rollouts_text(page, run):
    page.open("#maps?run=0&step=20&group=1")
    order = sorted(group_rows(run, 20, 1), key=lambda r: (not r["correct"], r["rollout"]))
    page.wait("return document.querySelectorAll('.box .chunk:not(:empty)').length > 0")
    first = page.js("return document.querySelector('.box').textContent")
    texts = read_vocabulary(run / "rollouts" / VOCABULARY_FILE)
    assert first == "".join(texts[token] for token in order[0]["token_ids"])
    chips = page.js("return [...document.querySelectorAll('.verdict-chip')].map(e => e.textContent)")
    assert [chip.endswith("Correct") for chip in chips] == [row["correct"] for row in order]


def test_choosing_another_group_or_step_changes_the_map(page):
    page.open("#maps?run=0&step=20&group=1")
    texts = {page.one("#rollouts").text}
    Select(page.one("#pick-group")).select_by_value("2")
    page.wait("return location.hash.includes('group=2')")
    texts.add(page.one("#rollouts").text)
    Select(page.one("#pick-step")).select_by_value("10")
    page.wait("return location.hash.includes('step=10')")
    texts.add(page.one("#rollouts").text)
    assert len(texts) == 3
    page.driver.back()
    page.wait("return location.hash.includes('step=20&group=2') && document.getElementById('pick-step').value === '20'")


def test_deep_link_restores_the_view(page):
    page.open("#maps?run=0&step=10&group=2")
    Select(page.one("#pick-colour")).select_by_value("advantage")
    page.js("document.querySelectorAll('.rollout')[1].querySelectorAll('.tok')[7].click()")
    address = page.js("return location.hash")
    script = "return ['inspector', 'rollouts'].map(id => document.getElementById(id).textContent.slice(0, 600))"
    before = page.js(script)
    assert "step=10&group=2&colour=advantage&token=" in address
    page.open(address)
    assert page.js(script) == before
    assert page.one("#pick-colour").get_attribute("value") == "advantage"
    assert page.js("return location.hash") == address


@pytest.mark.parametrize(
    "address", ["#maps?run=9&step=99&group=99&token=5", "#maps?step=x&position=99999", "#nonsense", "#main"]
)
def test_address_that_names_nothing_still_gives_a_view(page, address):
    page.open(address)
    assert page.console() == []
    assert page.js("return document.querySelectorAll('.view:not([hidden])').length") == 1


def test_keyboard_alone_reaches_every_token(page, run):
    page.open("#maps?run=0&step=20&group=1")
    for _ in range(40):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        if page.js("return document.activeElement.getAttribute('role')") == "listbox":
            break
    order = sorted(group_rows(run, 20, 1), key=lambda r: (not r["correct"], r["rollout"]))
    active = "return document.activeElement.getAttribute('aria-activedescendant')"
    for card, row in enumerate(order):
        length = len(row["token_ids"])
        reached = [page.js(active)]
        for _ in range(length - 1):
            ActionChains(page.driver).send_keys(Keys.ARROW_RIGHT).perform()
            reached.append(page.js(active))
        assert reached == [f"tok-{card}-{i}" for i in range(length)]
        assert (
            page.js("return document.getElementById(arguments[0]).getAttribute('aria-selected')", reached[-1]) == "true"
        )
        if card == 1:
            break
        ActionChains(page.driver).send_keys("]").perform()
    ActionChains(page.driver).send_keys(Keys.HOME, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP).perform()
    top = f"{active.replace('return', 'const id =')}; return document.getElementById(id).getClientRects()[0].top"
    ActionChains(page.driver).send_keys(Keys.HOME).perform()
    first_line = page.js(top)
    ActionChains(page.driver).send_keys(Keys.ARROW_DOWN).perform()
    assert page.js(top) > first_line
    ActionChains(page.driver).send_keys(Keys.ARROW_UP).perform()
    assert page.js(top) == first_line
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    assert "position=" in page.js("return location.hash")
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert "position=" not in page.js("return location.hash")


def test_script_in_a_rollout_is_text(page):
    page.open("#maps?run=0&step=20&group=0")
    assert page.js("return document.querySelector('#rollouts').textContent").count(HOSTILE) == 1
    page.one("#token-filter").send_keys("script")
    assert page.one("#token-table tbody tr").text != ""
    page.js("document.querySelector('#token-table tbody tr').click()")
    assert page.js("return typeof window.owned") == "undefined"
    assert page.all("#rollouts script, #rollouts img, #inspector script, #token-table script") == []
    assert page.console() == []


def test_table_sorts_filters_and_leads_to_the_token(page):
    page.open("#maps?run=0&step=20&group=1")
    column = "return [...document.querySelectorAll('#token-table tbody .col-m_c')].map(e => Number(e.textContent))"
    page.one("[data-sort=m_c]").click()
    counts = page.js(column)
    assert counts == sorted(counts, reverse=True) and len(set(counts)) > 2
    page.one("[data-sort=m_c]").click()
    assert page.js(column) == sorted(page.js(column))
    page.one("#token-filter").send_keys(" sum")
    assert page.js("return [...document.querySelectorAll('#token-table tbody .piece')].map(e => e.textContent)") == [
        " sum"
    ]
    page.js("document.querySelector('#token-table tbody .piece').click()")
    assert page.one("#inspector [data-field=token]").get_attribute("textContent") == " sum"


def test_smoothing_never_hides_the_raw_line(page, run):
    page.open("#curves")
    gather = "const p = document.querySelector('[data-panel=reward]'); return p.data && p.data.map(t => [...t.y])"
    page.wait(gather)
    raw = [json.loads(line)["reward"] for line in (run / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
    bold = []
    for weight in ("0", "0.9"):
        page.js(
            "const s = document.getElementById('smoothing');"
            "s.value = arguments[0]; s.dispatchEvent(new Event('input'))",
            weight,
        )
        thin, thick = page.js(gather)
        assert thin == pytest.approx(raw, rel=1e-4)
        bold.append(thick)
    assert bold[0] == pytest.approx(raw, rel=1e-4)
    assert bold[1] != pytest.approx(raw, rel=1e-2)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(page, theme):
    page.open(theme=theme)
    for view in VIEWS:
        page.go(f"#{view}" if view != "maps" else "#maps?run=0&step=20&group=1&token=1&rollout=0&position=3")
        found = [(v["id"], v["nodes"][0]["html"][:160]) for v in Axe().run(page.driver)["violations"]]
        assert found == [], view


def test_sign_and_strength_of_a_value_read_without_hue(page):
    page.open("#maps?run=0&step=20&group=1")
    style = (
        "const s = getComputedStyle(document.querySelector('#legend .' + arguments[0]));"
        "return [s.textDecorationLine, s.textDecorationStyle, s.textDecorationThickness].join(' ')"
    )
    styles = {name: page.js(style, name) for name in ("p2", "p3", "p4", "n2", "n3", "n4")}
    assert len(set(styles.values())) == 6, styles
    assert all(text.startswith("underline") for text in styles.values())


def test_printing_shows_every_view_and_whole_rollouts(page):
    page.open("#health")
    page.wait("return typeof Plotly === 'object'")
    page.driver.execute_cdp_cmd("Page.printToPDF", {})
    page.open("#maps?run=0&step=20&group=1")
    page.wait("return typeof Plotly === 'object'")
    page.js("dispatchEvent(new Event('beforeprint'))")
    assert page.js("return document.querySelectorAll('.view[hidden]').length") == 0
    assert page.js("return document.querySelectorAll('.plot:not(.js-plotly-plot)').length") == 0
    assert page.js("return document.querySelectorAll('.chunk:empty').length") == 0
    page.js("dispatchEvent(new Event('afterprint'))")
    assert page.js("return document.querySelectorAll('.view:not([hidden])').length") == 1
    assert page.console() == []
