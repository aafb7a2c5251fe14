"""The comparison of a sweep's arms, its tables, figures and page."""

import csv
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sweep_outcomes import STEPS, SWEEP, outcome, outcomes
from typer.testing import CliRunner

from openrlhf_ktae.cli import app
from openrlhf_ktae.files import write_json
from openrlhf_ktae.report.sweep_figures import swatch
from openrlhf_ktae.report.sweep_page import compare, figures, is_sweep, make_page, markdown, verdict, write_sweep_page
from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.sweep.key_tokens import quality, quality_over_run


def test_arms_are_compared_seed_by_seed():
    grpo, better, same, late = compare(outcomes(), SWEEP)
    assert grpo.is_baseline and not grpo.differences
    gain = better.differences["accuracy_last"]
    assert gain.estimate.mean == pytest.approx(0.05) and gain.excludes_zero and gain.higher == 6
    assert not same.differences["area_under_curve"].excludes_zero
    assert (late.finished, late.planned) == (1, 6) and late.differences["accuracy_last"].estimate.low is None
    assert better.reached[0.6] == (6, pytest.approx(9.0, abs=3)) and better.reached[0.99] == (0, None)
    assert better.accuracy.steps == STEPS and better.accuracy.estimates[0].mean == pytest.approx(0.47)


def test_the_verdict_says_what_differs_and_what_cannot_be_told():
    said = verdict(compare(outcomes(), SWEEP), SWEEP)
    assert re.search(r"better is above grpo, by \+0\.03\d \(\+0\.03\d to \+0\.0[34]\d\)\.", said)
    assert "No difference to grpo can be told for same, late." in said
    assert verdict(compare([outcome("grpo", 1)], SWEEP), SWEEP).startswith("Nothing can be said yet")


def test_a_run_that_is_not_finished_does_not_count():
    results = compare([outcome("grpo", 1), outcome("better", 1, "broken")], SWEEP)
    assert results[1].estimates == {} and results[1].differences == {}


def test_every_curve_is_reachable_and_says_its_numbers():
    drawn = figures(compare(outcomes(), SWEEP), SWEEP)
    assert set(drawn) == {"accuracy", "response_tokens", *(f"difference-{name}" for name in (
        "area_under_curve", "accuracy_last", "response_tokens_last"))}  # fmt: skip
    tree = ElementTree.fromstring(drawn["accuracy"])
    items = [group for group in tree.iter("g") if "item" in group.get("class", "")]
    assert [item.get("aria-label").partition(":")[0] for item in items] == ["grpo", "better", "same", "late"]
    assert all(item.get("tabindex") == "0" for item in items)
    assert items[1].get("aria-label").startswith("better: step 0 0.470 (")
    looks = {(item.get("class"), item.find("polyline").get("stroke-dasharray")) for item in items}
    assert len(looks) == 4  # colour and dash


def test_eight_arms_differ_in_dash_or_marker_so_that_no_figure_needs_hues():
    assert len({re.sub(r'class="arm\d"', "", swatch(place)) for place in range(8)}) == 8


def test_the_tables_are_there_as_markdown():
    text = markdown(compare(outcomes(), SWEEP), SWEEP)
    assert "| arm | runs | mean accuracy over training |" in text and "| late | 1 of 6 |" in text
    assert re.search(r"\| better \| accuracy at the end \| \+0\.050 \(.*\) \| 6 \| 6 / 0 \| 0\.031 \| yes \|", text)


def test_the_page_stands_alone_and_escapes_what_a_file_says():
    hostile = SWEEP.model_copy(update={"recipe": "<script>alert(1)</script>"})
    results = compare(outcomes(), hostile)
    page = make_page("<b>name</b>", hostile, {"notes": ["<i>note</i>"]}, outcomes(), results)
    assert "<script>alert" not in page and "<b>name" not in page and "<i>note" not in page
    assert page.count("<script>") == 1 and "default-src &#39;none&#39;" in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "late/seed-2: missing" in page and "but for what the notes above say" in page
    assert "but for what" not in make_page("name", SWEEP, {"notes": []}, outcomes(), results)


def test_settings_without_a_finished_run_are_named_in_one_line():
    asked = SWEEP.model_copy(update={"settings": {"filler_0": {}, "filler_0.8": {}}})
    found = [replace(o, run=replace(o.run, setting="filler_0")) for o in outcomes()]
    results = compare(found, asked)
    page = make_page("name", asked, {}, found, results)
    assert "Not one run is finished yet in: filler_0.8." in page and page.count('class="setting"') == 1
    assert "## filler_0\n" in markdown(results, asked) and "filler_0.8" not in markdown(results, asked)


def test_the_files_of_a_sweep_are_written_beside_the_page(tmp_path):
    from openrlhf_ktae.sweep.folder import SweepFolder

    SweepFolder(tmp_path).describe(Path("sweep.yaml"), SWEEP, "c0ffee")
    assert is_sweep(tmp_path) and not is_sweep(tmp_path / "figures")
    written = write_sweep_page(tmp_path)
    assert [file.name for file in written] == [
        "report.html", "summary.csv", "curves.csv", "comparison.csv", "comparison.md"]  # fmt: skip
    with (tmp_path / "summary.csv").open() as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"missing"}
    elsewhere = write_sweep_page(tmp_path, tmp_path / "pages" / "mine.html")
    assert {file.parent.name for file in elsewhere[1:]} == {"mine"} and elsewhere[0].name == "mine.html"


@pytest.mark.parametrize("option", [["--watch"], ["--export", "figures"], ["--group", "1:0"]])
def test_an_option_for_runs_is_refused_for_a_sweep(option, tmp_path):
    from openrlhf_ktae.sweep.folder import SweepFolder

    SweepFolder(tmp_path).describe(Path("sweep.yaml"), SWEEP, "c0ffee")
    result = CliRunner().invoke(app, ["report", str(tmp_path), *option])
    assert result.exit_code == 2 and f"{option[0]}: for runs" in result.output


def test_a_folder_of_another_format_is_refused(tmp_path):
    from openrlhf_ktae.sweep.folder import SweepFolder

    (tmp_path / "sweep.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="has format 99, this version reads 1"):
        SweepFolder(tmp_path).read()
    with pytest.raises(ValueError, match=r"holds no sweep\.json"):
        SweepFolder(tmp_path / "nowhere").read()


def test_precision_and_recall_of_key_tokens_by_hand():
    values = [[0.5, 0.05, -0.3], [0.0, -0.11, 0.0]]
    decisive = [[True, True, False], [False, True, False]]
    found = quality(7, values, decisive, scale=1.0)
    assert (found.step, found.precision, found.recall, found.decisive_share) == (7, 2 / 3, 2 / 3, 0.5)
    assert quality(7, values, decisive, scale=2.0).precision == 1 / 2  # |K| > 0.2: 0.5 and -0.3
    assert quality(7, [[0.0]], [[True]], 1.0).precision is None and quality(7, [[0.9]], [[False]], 1.0).recall is None
    assert quality(7, [], [], 1.0) is None


def test_the_rollouts_of_a_run_are_measured_where_the_task_knows_what_decides(tmp_path):
    folder = RunFolder(tmp_path)
    task = {"name": "worded_arithmetic"}
    config = {"advantage": {"terms": ["ktae"]}, "ktae": {"scale": 1.0}, "task": task, "grader": {}}
    write_json(folder.run_json, {"config": config})
    folder.rollouts.mkdir()
    words = [" #", " 4", " well", " gives"]
    pq.write_table(pa.table({"token_id": [0, 1, 2, 3], "token": words}), folder.vocabulary)
    rollouts = {
        "group": [0, 0, 1],
        "correct": [True, False, True],  # group 1 has no contrast and does not count
        "token_ids": [[3, 1, 2, 0, 1], [2, 2, 0, 1], [3, 1]],
        "key_token_value": [[0.5, 0.0, 0.4, 0.0, 0.6], [0.0, 0.0, 0.0, -0.9], [0.9, 0.9]],
    }
    pq.write_table(pa.table(rollouts), folder.rollouts / "step_00010.parquet")
    (found,) = quality_over_run(folder)
    # Key: gives, well, 4 | 4. Decisive: gives, its result 4, the answer 4 | the answer 4.
    assert (found.step, found.precision, found.recall, found.decisive_share) == (10, 3 / 4, 3 / 4, 4 / 9)
    write_json(folder.run_json, {"config": config | {"advantage": {"terms": []}}})
    assert quality_over_run(folder) == []
    write_json(folder.run_json, {"config": config | {"task": {"name": "math"}}})
    assert quality_over_run(folder) == []
