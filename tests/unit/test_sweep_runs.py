"""Starting, killing and going on with sweeps, in real processes; a stand-in of a moment is what trains."""

import csv
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from stand_in_sweep import attempts, finished, start, sweep_file

from openrlhf_ktae.checkpoints import write_manifest
from openrlhf_ktae.files import write_json
from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.run_folder import RunFolder, now
from openrlhf_ktae.runs.sweep import shares_of
from openrlhf_ktae.sweep.folder import SweepFolder, seconds_left
from openrlhf_ktae.sweep.outcomes import read_outcomes
from openrlhf_ktae.sweep.plan import planned_runs, read_sweep


@pytest.fixture
def file(tmp_path) -> Path:
    return sweep_file(tmp_path)


def test_a_sweep_leaves_a_row_per_run_and_its_second_start_runs_nothing(file, tmp_path):
    output = tmp_path / "out"
    first = start(file, output, parallel=2)
    said = first.communicate()[0]
    assert first.returncode == 0, said
    assert "4 of 4 runs finished" in said and "min left" in said
    with (output / "summary.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(row["arm"], row["seed"], row["status"]) for row in rows[:2]] == [
        ("grpo", "1", "finished"),
        ("ktae", "1", "finished"),
    ]
    assert rows[0]["accuracy_last"] == "0.71" and rows[1]["accuracy_last"] == "0.72"
    assert float(rows[0]["area_under_curve"]) == pytest.approx(0.51) and rows[0]["steps_to_0.8"] == ""
    with (output / "curves.csv").open() as table:
        assert len(list(csv.DictReader(table))) == 4 * 3
    again = start(file, output)
    assert "4 runs, 4 finished already" in again.communicate()[0] and again.returncode == 0
    assert all(found == ["finished"] for found in attempts(file, output).values())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_the_middle_and_started_again_it_loses_and_repeats_nothing(file, tmp_path, number):
    output = tmp_path / "out"
    killed = start(file, output)
    while not finished(file, output):
        assert killed.poll() is None
        time.sleep(0.02)
    os.kill(killed.pid, number)
    said = killed.communicate()[0]
    assert ("the same command goes on from here" in said) == (number == signal.SIGTERM)
    before = finished(file, output)
    assert 1 <= len(before) < 4
    again = start(file, output)
    said = again.communicate()[0]
    assert again.returncode == 0, said
    found = attempts(file, output)
    assert all(statuses.count("finished") == 1 for statuses in found.values())
    assert all(found[name] == ["finished"] for name in before)  # none of them ran twice


def test_two_sweeps_at_once_do_not_disturb_each_other(file, tmp_path):
    apart = [start(file, tmp_path / name) for name in ("a", "b")]
    together = [start(file, tmp_path / "c") for _ in range(2)]
    for process in (*apart, *together):
        said = process.communicate()[0]
        assert process.returncode == 0, said
    for name in ("a", "b", "c"):
        assert all(found == ["finished"] for found in attempts(file, tmp_path / name).values())


def test_a_run_that_is_trained_now_is_said_to_be_running(file, tmp_path):
    folder, run = SweepFolder(tmp_path / "out"), planned_runs(read_sweep(file), file.parent)[0]
    missing = folder.state(run)
    assert folder.status(run, missing) == missing.status == "missing" and not folder.path.exists()
    lock = folder.lock(run)
    assert lock is not None and folder.lock(run) is None
    assert folder.status(run, missing) == "running" and read_outcomes(folder, [run])[0].status == "running"
    os.close(lock)
    assert folder.status(run, missing) == "missing"


def test_a_run_that_fails_is_named_does_not_stop_the_others_and_is_tried_again(file, tmp_path):
    output = tmp_path / "out"
    content = yaml.safe_load(file.read_text())
    content["arms"]["broken"] = {"advantage.terms": [], "run.tracked_rollouts": 0}
    file.write_text(yaml.safe_dump(content | {"seeds": [1]}))
    process = start(file, output)
    said = process.communicate()[0]
    assert process.returncode == 1 and "broken/seed-1: not finished (exit code 1): asked to fail" in said
    assert "1 runs are not finished" in said
    assert attempts(file, output) == {
        "grpo/seed-1": ["finished"],
        "ktae/seed-1": ["finished"],
        "broken/seed-1": ["failed"],
    }
    assert "broken/seed-1: starts anew" in start(file, output, only="broken").communicate()[0]


def test_runs_at_a_time_share_the_cores():
    assert shares_of({0, 1, 4, 5, 6}, 2) == [{0, 1}, {4, 5, 6}]
    assert shares_of({0, 1}, 1) == shares_of({0, 1}, 3) == []


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_each_of_two_runs_at_a_time_has_cores_of_its_own(file, tmp_path):
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(content | {"seeds": [1]}))
    start(file, tmp_path / "out", parallel=2).communicate()
    folder, runs = SweepFolder(tmp_path / "out"), planned_runs(read_sweep(file), file.parent)
    found = [set(folder.attempts(run)[0].read()["cores"]) for run in runs]
    assert sorted(map(min, found)) == sorted(map(min, shares_of(os.sched_getaffinity(0), 2)))
    assert not set.intersection(*found)


@pytest.mark.parametrize(("failures", "tried"), [(3, 3), (2, 2), (0, 5)])
def test_a_sweep_whose_runs_all_fail_starts_no_more(file, tmp_path, failures, tried):
    content = yaml.safe_load(file.read_text())
    content |= {"options": {"run.tracked_rollouts": 0}, "seeds": [1, 2, 3, 4, 5]}
    file.write_text(yaml.safe_dump(content))
    process = start(file, tmp_path / "out", only="grpo/", failures=failures)
    said = " ".join(process.communicate()[0].split())
    assert process.returncode == 1 and said.count("asked to fail") == tried
    assert (f"the last {tried} runs failed; no more were started (--max-failures)" in said) == (failures != 0)


def test_a_run_that_finishes_forgives_those_that_failed_before_it(file, tmp_path):
    content = yaml.safe_load(file.read_text())
    content["arms"]["broken"] = {"advantage.terms": [], "run.tracked_rollouts": 0}
    file.write_text(yaml.safe_dump(content))
    process = start(file, tmp_path / "out", failures=2)
    said = process.communicate()[0]
    assert said.count("asked to fail") == 2 and "4 of 6 runs finished" in said and "no more were started" not in said


def test_a_broken_run_with_a_checkpoint_goes_on_with_it(file, tmp_path):
    output = tmp_path / "out"
    folder = SweepFolder(output)
    run = planned_runs(read_sweep(file), file.parent)[0]
    attempt = RunFolder(folder.of(run) / "stand-in-0")
    checkpoint = attempt.path / "checkpoints" / "_actor" / "global_step5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.pt").write_bytes(b"weights")
    write_manifest(checkpoint)
    overrides = [*run.overrides, "run.output_dir=x"]
    content = {"status": "running", "reason": None, "started_at": now(), "finished_at": None}
    config = {"openrlhf": {"ckpt.path": str(attempt.path / "checkpoints")}}
    write_json(attempt.run_json, content | {"overrides": overrides, "config": config})
    said = start(file, output, only="grpo/seed-1").communicate()[0]
    assert "grpo/seed-1: goes on" in said
    assert attempts(file, output)["grpo/seed-1"] == ["finished"]


def test_changed_options_of_a_run_that_is_there_are_refused(file, tmp_path):
    output = tmp_path / "out"
    start(file, output, only="grpo/seed-1").communicate()
    content = yaml.safe_load(file.read_text())
    content["options"] = {"actor.adam.lr": 1e-4}
    file.write_text(yaml.safe_dump(content))
    process = start(file, output)
    said = " ".join(process.communicate()[0].split())
    assert process.returncode == 2
    assert "grpo/seed-1: actor.adam.lr was not set in" in said and "give the changed sweep another --output" in said


def test_a_recipe_that_changed_since_is_refused_and_one_that_moved_is_not(file, tmp_path):
    folder = SweepFolder(tmp_path / "out")
    run = planned_runs(read_sweep(file), file.parent)[0]
    attempt = RunFolder(folder.of(run) / "stand-in-0")
    attempt.path.mkdir(parents=True)
    config = resolve(run.recipe, list(run.overrides))
    described = config.described("/elsewhere/runs/stand-in-0")
    content = {"status": "finished", "started_at": now(), "overrides": list(run.overrides), "config": described}
    write_json(attempt.run_json, content)
    folder.check_options(run, config)
    described["openrlhf"]["actor.adam.lr"] = 0.5
    write_json(attempt.run_json, content)
    with pytest.raises(ValueError, match=r"grpo/seed-1: actor.adam.lr was 0.5 in .*, and is 0.0002 now \(configs/"):
        folder.check_options(run, config)
    described["openrlhf"].pop("actor.adam.lr")
    described["run"]["collapse_steps"] = 3
    write_json(attempt.run_json, content)
    with pytest.raises(ValueError, match=r"run.collapse_steps was 3 in .*, and is 10 now \(a default\)"):
        folder.check_options(run, config)


def test_a_run_is_chosen_by_its_whole_name(file, tmp_path):
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(content | {"seeds": [1, 10]}))
    output = tmp_path / "out"
    start(file, output, only="grpo/seed-1/").communicate()
    assert finished(file, output) == ["grpo/seed-1"]


def test_a_part_that_names_no_run_is_refused(file, tmp_path):
    process = start(file, tmp_path / "out", only="dapo")
    assert "--only: no run's name holds 'dapo'" in process.communicate()[0] and process.returncode == 2


def test_the_time_left_is_that_of_the_runs_so_far():
    assert seconds_left([], 4, 1) is None
    assert seconds_left([100, 140], 3, 1) == 360
    assert seconds_left([100, 140], 3, 2) == 240
