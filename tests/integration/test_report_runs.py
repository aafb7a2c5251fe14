"""Reports of runs of all kinds in headless Chromium: terms of their own, several seeds, long, damaged, odd numbers."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_browser import VIEWS, Page
from report_runs import group_rows, write_run
from selenium.webdriver.support.ui import Select

from openrlhf_ktae.report import write_report
from openrlhf_ktae.report.groups import read_groups

pytestmark = pytest.mark.browser


def test_a_terms_columns_are_colours_of_the_map(driver, tmp_path):
    """A run with terms of its own and without KTAE: a weight (shown over its range) and a signed column."""
    run = write_run(tmp_path / "run", steps=4, rollout_steps=(4,), groups=1, size=4, tokens=40, hostile=False)
    file = run / "rollouts" / "step_00004.parquet"
    rows = pq.read_table(file).drop_columns(["key_token_value"]).to_pylist()
    for row in rows:
        count = len(row["token_ids"])
        row |= {"weight": [0.5 + i / (2 * count) for i in range(count)], "pull": [(-1.0) ** i for i in range(count)]}
    pq.write_table(pa.Table.from_pylist(rows), file)
    page = Page(driver, write_report([run]))
    page.open("#maps?run=0&step=4&group=0&colour=column:weight")
    pick = Select(page.one("#pick-colour"))
    assert [option.get_attribute("value") for option in pick.options][3:] == ["column:weight", "column:pull"]
    assert pick.first_selected_option.text == "weight"
    classes = "return [...document.querySelector('.rollout').querySelectorAll('.tok')].map(t => t.className)"
    found = page.js(classes)
    assert "s4" in found[-2] and not any(f"s{level}" in found[0] for level in range(1, 5))
    assert "from 0.5" in page.one("#legend").text
    pick.select_by_value("column:pull")
    first, second = page.js(classes)[:2]
    assert "p4" in first and "n4" in second
    page.js("document.querySelectorAll('.rollout .tok')[1].click()")
    assert page.one("#inspector [data-field=column-pull]").get_attribute("data-value") == "-1"
    assert "colour=column%3Apull" in page.js("return location.hash") and page.console() == []


def test_segments_and_branches_are_drawn_and_the_value_of_a_prefix_is_said(driver, tmp_path):
    run = write_run(tmp_path / "run", steps=4, rollout_steps=(4,), groups=1, size=4, tokens=40, hostile=False)
    file = run / "rollouts" / "step_00004.parquet"
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        count = len(row["token_ids"])
        row["branch"] = row["rollout"] // 2
        row["segment"] = [0.0] * 4 + [-1.0] * 2 + [1.0] * (count - 6)  # a turn, what a tool said, another turn
        row["segment_value"] = [None] * 6 + [0.25] * (count - 6)
        row["generated"] = [number >= 0 for number in row["segment"]]
    pq.write_table(pa.Table.from_pylist(rows), file)
    page = Page(driver, write_report([run]))
    page.open("#maps?run=0&step=4&group=0")
    starts = "return [...document.querySelectorAll('.rollout .tok.starts-segment')].map(t => t.dataset.i)"
    assert page.js(starts) == ["6"] * 4
    assert "a segment begins" in page.one("#legend").text
    headers = sorted(element.text for element in page.all(".rollout header"))
    assert [sum(f"branch {number}" in text for text in headers) for number in (0, 1)] == [2, 2]
    page.js("document.querySelectorAll('.rollout .tok')[6].click()")
    assert page.one("#inspector [data-field=column-segment_value]").get_attribute("data-value") == "0.25"
    page.js("document.querySelectorAll('.rollout .tok')[0].click()")
    assert page.one("#inspector [data-field=column-segment_value]").get_attribute("data-value") == ""
    assert "null" not in page.one("#inspector").text and page.console() == []


def test_seeds_are_a_band_and_runs_are_named(driver, tmp_path):
    runs = [
        write_run(tmp_path / f"s{seed}", steps=12, rollout_steps=(12,), groups=1, size=4, tokens=30, seed=seed)
        for seed in (0, 1)
    ]
    runs.append(
        write_run(
            tmp_path / "other",
            name="a <b>bold</b> run",
            steps=12,
            rollout_steps=(12,),
            groups=1,
            size=4,
            tokens=30,
            scale=0.5,
        )
    )
    page = Page(driver, write_report(runs, tmp_path / "all.html")).open("#curves")
    page.wait("return document.querySelector('[data-panel=reward]').data")
    fills = page.js(
        "return document.querySelector('[data-panel=reward]').data.filter(t => t.fill === 'tonexty').length"
    )
    assert fills == 1
    assert page.one("#run-legend").text == "arithmetic-grpo-ktae (2 seeds)\na <b>bold</b> run"
    page.js("Plotly.Fx.hover(document.querySelector('[data-panel=reward]'), [{curveNumber: 6, pointNumber: 5}])")
    assert "a <b>bold</b> run" in page.one("[data-panel=reward] .hoverlayer").get_attribute("textContent")
    assert page.js("return document.querySelectorAll('#run-legend b, #panels b').length") == 0
    assert page.console() == []


def test_long_group_paints_at_once_and_renders_what_is_visible(driver, tmp_path):
    run = write_run(tmp_path / "long", steps=4, rollout_steps=(4,), groups=1, size=16, tokens=3060)
    assert min(len(row["token_ids"]) for row in group_rows(run, 4, 0)) >= 3050
    page = Page(driver, write_report([run])).open("#maps")
    page.wait("return document.querySelectorAll('.tok').length > 100")
    paint = page.js("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 2000
    assert page.js("return document.querySelectorAll('.rollout').length") == 16
    assert page.js("return document.querySelectorAll('.tok').length") < 5000
    frames = driver.execute_async_script(
        "const done = arguments[0], box = document.querySelector('.box'), times = []; let last = performance.now();"
        "const step = (now) => { times.push(now - last); last = now; box.scrollTop += 160;"
        "  times.length < 90 ? requestAnimationFrame(step) : done(times.sort((x, y) => x - y)); };"
        "requestAnimationFrame(step);"
    )
    assert frames[45] < 40, f"median frame {frames[45]:.0f} ms"
    page.wait(
        "const b = document.querySelector('.box'); b.scrollTop = b.scrollHeight;"
        "return b.textContent.endsWith('<|im_end|>')"
    )
    assert page.js("return document.querySelectorAll('.tok').length") < 5000


def test_pages_of_damaged_runs_load(driver, tmp_path):
    run = write_run(tmp_path / "damaged", steps=6, rollout_steps=(3, 6), groups=1, size=4, tokens=30)
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(
        "".join(line for line in text.splitlines(keepends=True) if '"eval"' not in line)[:-30]
    )
    (run / "rollouts" / "step_00006_tokens.parquet").unlink()
    (run / "rollouts" / "step_00003.parquet").write_bytes(b"PAR1")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "run.json").write_text("{}")
    for folder in (run, empty):
        page = Page(driver, write_report([folder])).open()
        for view in VIEWS[::-1]:
            page.go(f"#{view}")
        assert page.console() == []
        assert len(page.all(".missing li")) >= 2
    page = Page(driver, run / "report.html").open("#maps?step=6&group=0&rollout=0&position=2")
    shown = page.token_shown()
    assert "a" in shown and "fisher_p" not in shown


def test_small_shares_and_constants_have_an_axis_that_can_be_read(driver, tmp_path):
    run = write_run(tmp_path / "small", steps=8, rollout_steps=())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "train":
            row |= {"rollout/truncated_rate": 0.002 * row["step"], "actor_lr": 2e-4}
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(driver, write_report([run])).open("#curves")
    for panel in ("truncated", "learning_rate"):  # drawn when they come into sight
        page.js("document.querySelector(`[data-panel=${arguments[0]}]`).scrollIntoView()", panel)
        page.wait("return document.querySelector(`[data-panel=${arguments[0]}]`).data", panel)
    ticks = page.js(
        "return [...document.querySelectorAll('[data-panel=truncated] .ytick text')].map(t => t.textContent)"
    )
    assert len(ticks) == len(set(ticks)) > 2
    low, high = page.js("return document.querySelector('[data-panel=learning_rate]').layout.yaxis.range")
    assert low == 0 and 2e-4 < high <= 1e-3


def test_a_value_at_its_limit_in_spite_of_a_large_p_is_explained(driver, tmp_path):
    run = write_run(tmp_path / "chance", steps=1, rollout_steps=(1,), groups=1, size=8)
    view = read_groups(run / "rollouts/step_00001.parquet", run / "rollouts/step_00001_tokens.parquet", [0])[0]
    p, value = view["statistics"]["fisher_p"], view["statistics"]["value"]
    chance = next(i for i in range(len(p)) if p[i] > 0.05 and abs(value[i]) > 0.99)
    usual = next(i for i in range(len(p)) if abs(value[i]) < 0.5)
    page = Page(driver, write_report([run])).open("#maps")
    for token, explained in ((chance, True), (usual, False)):
        page.js("document.querySelector(`#token-table tr[data-token='${arguments[0]}'] button`).click()", token)
        page.wait("return document.querySelector('#inspector [data-field=value]')")
        assert bool(page.all("#inspector .saturated")) is explained
    assert page.console() == []
