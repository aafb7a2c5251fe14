"""Rows and rewards that fail in the middle of a real run: replaced and counted, or the end with the reason."""

import json
import subprocess

import pyarrow.parquet as pq
import pytest
from tiny_run import PROMPTS, REWARD, ROOT, TinyRuns, start, steps

pytestmark = pytest.mark.ray

FAILING = REWARD.replace(
    "def reward_func(",
    '''import os, time
seen = set()

def reward_func(queries, prompts, labels, **kwargs):
    """Fails by the label of the row; the preflight call has an empty response."""
    how = labels[0] if queries != prompts else ""
    if how == "raises once" and how not in seen:
        seen.add(how)
        raise OSError("connection reset")
    if how == "raises":
        raise KeyError("no such label")
    if how == "hangs":
        time.sleep(60)
    if how == "nan":
        return {"rewards": torch.tensor([float("nan")]), "scores": torch.tensor([0.0])}
    if how == "wrong length":
        return {"rewards": torch.zeros(3), "scores": torch.zeros(3)}
    result = graded(queries, prompts, labels, **kwargs)
    return result | {"scores": torch.tensor([0.5])} if how == "half" else result

def graded(''',
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=3)
    (made.folder / "failing.py").write_text(FAILING)
    return made


def with_rows(runs, name, *labels, prompt=None):
    """A prompt set whose first rows have these labels, in the order of the data; three steps and as many spare rows."""
    rows = [json.loads(line) for line in (runs.folder / "train.jsonl").read_text().splitlines()]
    for row, label in zip(rows, labels, strict=False):
        row["label"] = label
    if prompt:
        rows[-1]["input"] = prompt
    path = runs.folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        f"data.prompt_dataset={path}",
        f"reward.remote_url={runs.folder / 'failing.py'}",
        "run.reward_seconds=3",
        "run.rollout_log_steps=1",
        "ckpt.save_steps=-1",
    ]


@pytest.fixture(scope="module")
def always_failing(runs):
    """Two runs, at once, by the label of all their rows."""
    commands = {label: runs.command(label, *with_rows(runs, label, *[label] * 12)) for label in ("raises", "half")}
    return {label: (start(line), folder) for label, (line, folder) in commands.items()}


def test_prompts_that_fail_are_replaced_counted_and_never_trained_on(runs):
    labels = ("raises once", "raises", "hangs", "nan", "wrong length")
    changes = with_rows(runs, "bad", *labels, prompt="1 + 1 = " * 40)
    line, folder = runs.command("bad", *changes, "run.max_failed_prompts=1")
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in folder.metrics() if line["kind"] == "train"]
    # Twelve rows, five of which cannot be trained on: "raises once" can.
    assert sum(line["rollout/failed_prompts"] for line in lines) == 5
    assert sum(line["rollout/num_samples"] for line in lines) == (3 * PROMPTS - 5) * 8

    rows = [
        row for step in steps(folder) for row in pq.read_table(folder.rollouts / f"step_{step:05d}.parquet").to_pylist()
    ]
    assert {row["label"] for row in rows} & set(labels) == {"raises once"}
    assert not any("1 + 1 = 1 + 1 = " in row["prompt"] for row in rows)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (
            "raises",
            "2 of 4 prompts of a step failed, more than run.max_failed_prompts allows (0.1); the last: "
            "reward function: KeyError('no such label')",
        ),
        ("half", "scores: found 0.5, expected 0 (wrong) or 1 (correct)"),
    ],
)
def test_a_reward_function_that_always_fails_ends_the_run_with_its_reason(always_failing, label, reason):
    process, folder = always_failing[label]
    output, _ = process.communicate(timeout=300)
    run = folder.read()
    assert process.returncode == 1, output
    assert run["status"] == "failed" and run["restarts"] == [] and reason in run["reason"]
    assert steps(folder) == []
