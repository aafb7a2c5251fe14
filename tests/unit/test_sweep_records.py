"""What the tables of a sweep keep of finished runs: enough for the page, and to go on without the runs' folders."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from stand_in_sweep import ROOT, finished, start, sweep_file
from sweep_outcomes import SWEEP, outcome, outcomes

from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.report.sweep_page import write_sweep_page
from openrlhf_ktae.sweep.comparison import compare, unpaired
from openrlhf_ktae.sweep.folder import SweepFolder
from openrlhf_ktae.sweep.key_tokens import KeyTokenQuality
from openrlhf_ktae.sweep.outcomes import numbers_of, read_outcomes, write_summary
from openrlhf_ktae.sweep.plan import planned_runs, read_sweep
from openrlhf_ktae.sweep.records import read_records


def test_outcomes_are_read_back_as_they_were_written(tmp_path):
    quality = (KeyTokenQuality(1, 0.25, None, 0.5), KeyTokenQuality(20, 0.125, 0.75, 0.5))
    written = [replace(one, key_tokens=quality, start_model="c0ffee") for one in outcomes()]
    summary = write_summary(written, SWEEP, tmp_path / "summary.csv")
    folder = SweepFolder(tmp_path)
    found = read_outcomes(folder, [one.run for one in written])
    assert [(one.status, one.start_model, one.commit, one.steps) for one in found] == [
        (one.status, one.start_model, one.commit, one.steps) if one.status == "finished" else ("missing", None, None, 0)
        for one in written
    ]
    finished_ones = [(a, b) for a, b in zip(found, written, strict=True) if b.status == "finished"]
    assert len(finished_ones) == 19
    for one, before in finished_ones:
        read, numbers = numbers_of(one, (0.6,)), numbers_of(before, (0.6,))
        assert {name for name, number in read.items() if number is None} == {
            name for name, number in numbers.items() if number is None
        }
        assert all(read[name] == pytest.approx(number, rel=1e-5) for name, number in numbers.items() if number)
    text = [line for line in summary.read_text().splitlines() if ",missing," not in line]
    again = [line for line in write_summary(found, SWEEP, summary).read_text().splitlines() if ",missing," not in line]
    assert again == text and len(text) == 20


def test_a_sweep_goes_on_from_its_tables_alone(tmp_path):
    file = sweep_file(tmp_path)
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    start(file, here, only="/seed-1").communicate()
    elsewhere.mkdir()
    for name in ("sweep.json", "summary.csv", "curves.csv"):
        shutil.copy(here / name, elsewhere)
    process = start(file, elsewhere)
    said = process.communicate()[0]
    assert process.returncode == 0 and "4 runs, 2 finished already" in said and "4 of 4 runs finished" in said
    assert finished(file, elsewhere) == ["grpo/seed-2", "ktae/seed-2"]  # the others have no folder
    with (elsewhere / "summary.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["status"] for row in rows] == ["finished"] * 4
    assert [row["start_seconds"] for row in rows] == ["0.25"] * 4  # read from folders and from the table
    shutil.rmtree(elsewhere / "runs")
    page = write_sweep_page(elsewhere)[0].read_text()
    assert "4 of 4 finished" in page


def test_a_row_is_no_run_of_other_options(tmp_path):
    file = sweep_file(tmp_path)
    output = tmp_path / "out"
    start(file, output, only="grpo/seed-1").communicate()
    shutil.rmtree(output / "runs")
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(content | {"options": {"actor.adam.lr": 1e-4}}))
    process = start(file, output)
    said = " ".join(process.communicate()[0].split())
    assert process.returncode == 2 and "grpo/seed-1: actor.adam.lr was not set in" in said
    assert "whose summary.csv counts the run as finished" in said


@pytest.mark.parametrize(
    ("table", "harm"),
    [
        ("summary.csv", lambda text: text.replace(",finished,20,", ",finished,many,", 1)),
        ("summary.csv", lambda text: text.replace("seed", "seeds", 1)),
        ("curves.csv", lambda text: text.replace(",0,", ",x,", 1)),
        ("curves.csv", lambda text: f"{text}half a row"),
    ],
)
def test_rows_that_no_sweep_wrote_are_named(tmp_path, table, harm):
    write_summary(outcomes(), SWEEP, tmp_path / "summary.csv")
    path: Path = tmp_path / table
    path.write_text(harm(path.read_text()))
    with pytest.raises(ValueError, match=rf"{table}, line \d+: no row that a sweep writes"):
        read_records(tmp_path / "summary.csv")


def test_runs_from_other_weights_are_no_pair():
    moved = [replace(outcome("better", seed), start_model="b") for seed in (1, 2)]
    same = [replace(outcome("better", seed), start_model="a") for seed in (3, 4)]
    found = [*(replace(outcome("grpo", seed), start_model="a") for seed in range(1, 6)), *moved, *same]
    _, better, *_ = compare(found, SWEEP)
    assert better.finished == 4 and better.differences["accuracy_last"].estimate.n == 2
    (said,) = unpaired(found, SWEEP)
    assert said.startswith("better: started from other weights than grpo on seeds 1, 2")
    assert unpaired(outcomes(), SWEEP) == []


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        (".", "evidence"),
        ("without_filler", "evidence_without_filler"),
        ("parts", "evidence_parts"),
        ("oracle", "evidence_oracle"),
        ("groups", "evidence_groups"),
        ("methods_rates", "evidence_methods_rates"),
        ("methods", "evidence_methods"),
    ],
)
def test_the_documented_study_goes_on_and_its_numbers_and_figures_follow_from_the_tables(tmp_path, name, protocol):
    evidence = ROOT / "docs" / "evidence" / name
    for table in ("sweep.json", "summary.csv", "curves.csv"):
        shutil.copy(evidence / table, tmp_path)
    folder, file = SweepFolder(tmp_path), ROOT / "recipes" / "sweeps" / f"{protocol}.yaml"
    runs = planned_runs(read_sweep(file), file.parent)
    for run in runs:
        folder.check_options(run, resolve(run.recipe, list(run.overrides)))
    states = [folder.state(run).status for run in runs]
    assert states.count("finished") == (evidence / "summary.csv").read_text().count(",finished,") > 0
    write_sweep_page(tmp_path)
    assert (tmp_path / "comparison.csv").read_text() == (evidence / "comparison.csv").read_text()
    made = {path.read_text() for path in (tmp_path / "figures").glob("*.svg")}
    assert all(figure.read_text() in made for figure in evidence.glob("*.svg"))
