"""Run folders as they come: complete, growing, damaged."""

import json
from pathlib import Path

import pytest
from report_runs import write_run

from openrlhf_ktae.report import write_report
from openrlhf_ktae.report.page import watch
from openrlhf_ktae.report.run_folder import read_run, run_status


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", steps=12, rollout_steps=(6, 12), groups=2, size=4, tokens=40)


def page_of(run: Path) -> str:
    return write_report([run]).read_text(encoding="utf-8")


def test_complete_run_reports_nothing_missing(run):
    read = read_run(run)
    assert read.missing == ()
    assert [row["step"] for row in read.train] == list(range(1, 13))
    assert [row["step"] for row in read.evaluations] == [1, 10]
    assert sorted(read.rollout_files) == sorted(read.token_files) == [6, 12]


def test_cut_off_metrics_line_is_named_and_the_rest_is_read(run):
    file = run / "metrics.jsonl"
    text = file.read_text()
    file.write_text(text[:-40])
    read = read_run(run)
    assert read.last_step == 11
    assert any("line 14 of 14 cut off" in note for note in read.missing)
    assert "line 14 of 14 cut off" in page_of(run)


def test_null_and_foreign_values_become_gaps(run):
    row = {"kind": "train", "step": 13, "reward": None, "kl": "text", "extra": [1]}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n" + '{"kind": "train", "step": 14, "reward": NaN}\n[1]\n')
    read = read_run(run)
    assert [row["reward"] for row in read.train[-2:]] == [None, None]
    assert read.train[-2]["extra"] is None
    assert any("line 17" in note for note in read.missing)


def test_step_written_twice_counts_once_with_its_later_numbers(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "step": 5, "reward": 0.125}) + "\n")
    read = read_run(run)
    assert len(read.train) == 12
    assert read.train[4]["reward"] == 0.125


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", [None, b"", b'{"name": "x', b"\xff\xfe\x00", b"[]"])
def test_page_is_written_and_names_a_damaged_file(run, name, content):
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content)
    page = page_of(run)
    assert "Missing from the run folder" in page
    assert f"<li>{name}" in page


def test_a_folder_that_is_no_run_is_refused_and_nothing_is_written_into_it(tmp_path):
    with pytest.raises(ValueError, match="holds neither"):
        page_of(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_has_only_begun_gives_a_page(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    page = page_of(tmp_path)
    for words in (
        "metrics.jsonl is missing",
        "no key-token maps",
        "There are no rollouts to show",
    ):
        assert words in page


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_damaged_rollouts_leave_the_other_steps(run, damage):
    file = run / "rollouts" / "step_00012.parquet"
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"PAR1" + b"\0" * 60 + b"PAR1")
    page = page_of(run)
    assert ("step_00012.parquet cannot be read" in page) == (damage != "missing")
    assert 'id="data-group-1"' in page and 'id="data-group-2"' not in page


def test_damaged_body_behind_an_intact_footer_is_named(run):
    for name in ("step_00012.parquet", "step_00012_tokens.parquet"):
        file = run / "rollouts" / name
        content = bytearray(file.read_bytes())
        content[4 : len(content) // 3] = b"\xa5" * (len(content) // 3 - 4)
        file.write_bytes(bytes(content))
    page = page_of(run)
    assert "step_00012.parquet is damaged" in page
    assert "no tokens over the run" in page


def test_missing_token_statistics_are_named(run):
    (run / "rollouts" / "step_00006_tokens.parquet").unlink()
    assert "step 6 shows counts and values, but not p" in page_of(run)


def test_missing_token_statistics_of_several_steps_are_one_sentence(run):
    for file in (run / "rollouts").glob("*_tokens.parquet"):
        file.unlink()
    notes = [note for note in read_run(run).missing if "tokens.parquet" in note]
    assert len(notes) == 1 and "steps 6, 12" in notes[0]


@pytest.mark.parametrize("config", [{"ktae": {"scale": 0.0}}, {"ktae": {"scale": 1.0}, "advantage": {"terms": []}}])
def test_a_run_without_ktae_misses_no_token_statistics(run, config):
    for file in (run / "rollouts").glob("*_tokens.parquet"):
        file.unlink()
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"config": config}))
    assert read_run(run).missing == ()


def test_run_without_evaluation_says_so(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"eval"' not in line))
    assert "No evaluation during training" in page_of(run)


def test_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a directory"):
        write_report([tmp_path / "absent"])


def test_benchmark_results_are_read_and_broken_ones_named(run):
    for name, content in {
        "final": {"tasks": {"math": {"pass@1": 0.5, "ci95": [0.4, 0.6], "n": 100}}},
        "old": {"x": 1},
    }.items():
        (run / "evaluation" / name).mkdir(parents=True)
        (run / "evaluation" / name / "results.json").write_text(json.dumps(content))
    page = page_of(run)
    assert "50.0 %" in page and "40.0 to 60.0" in page
    assert "evaluation/old/results.json has no `tasks`" in page


def test_watch_writes_on_change_and_stops_when_the_run_ends(run):
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "running"}))
    written = []

    def write() -> Path:
        written.append(write_report([run]))
        if len(written) == 1:  # the run goes on and ends while the page is being looked at
            (run / "run.json").write_text(json.dumps(info | {"status": "finished", "name": "ended"}))
        return written[-1]

    watch(write, [run], 0.01, lambda: run_status(run) == "running")
    assert len(written) == 2
    assert "ended" in written[-1].read_text(encoding="utf-8")
    assert [p.name for p in run.iterdir() if p.name.startswith(".")] == []
