"""What is asked: tasks, templates, the user's own benchmarks; the same as evaluation inside training asks."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from shared_data import evaluation_suite

from eval.grading import grade_samples
from eval.model import fingerprint, template_warning
from eval.run import RunOptions, make_jobs
from eval.saved_outputs import Sample
from eval.suite import load_tasks
from openrlhf_ktae.reward.math_reward import decode_label
from openrlhf_ktae.tasks.math.benchmarks import BENCHMARKS
from openrlhf_ktae.tasks.templates import TEMPLATES
from openrlhf_ktae.tasks.tiny_model import make_tokenizer

ROOT = Path(__file__).resolve().parents[2]


def make_benchmark(folder, rows, **fields):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "path": "rows.jsonl", **fields}))
    return file


def load(file, **changes):
    given = {"data": "none", "names": None, "benchmarks": [file], "template_name": "qwen_math", "limit": None}
    return load_tasks(**{**given, **changes})


def test_evaluation_inside_training_asks_and_accepts_the_same(tmp_path):
    suite, file = evaluation_suite(), tmp_path / "evaluation.jsonl"
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "data", str(file), "--benchmarks", str(suite)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
    tasks = load_tasks(str(suite), None, [], "qwen_math", None)
    jobs = make_jobs(tasks, RunOptions("m", str(suite), tmp_path), None)
    assert len(rows) == len(jobs) == 1560
    assert [(row["datasource"], row["input"]) for row in rows] == [(j.request.key[0], j.request.prompt) for j in jobs]
    assert [decode_label(row["label"]) for row in rows] == [job.problem.answers for job in jobs]


def test_whole_suite_is_graded_within_a_minute(tmp_path):
    # Right answers written by a model's habit, and every third one a different problem's answer.
    problems = [p for task in load_tasks(str(evaluation_suite()), None, [], "none", None) for p in task.problems]
    samples = []
    for number, problem in enumerate(problems):
        given = problems[number - 1] if number % 3 == 0 else problem
        text = f"Let me think. \\[ x \\] So the answer is $\\boxed{{ {given.answers[0]} }}$."
        samples.append(Sample(problem.task, problem.index, 0, "", problem.answers, None, text, None, None, None))
    start = time.monotonic()
    records = grade_samples(samples, dict.fromkeys(BENCHMARKS, "boxed"))
    assert time.monotonic() - start < 60
    assert all(record.correct for number, record in enumerate(records) if number % 3)
    assert sum(record.correct for record in records[::3]) < 0.05 * len(records[::3])


def test_columns_template_and_answer_kinds_of_a_users_benchmark(tmp_path):
    rows = [{"q": "1+1?", "a": 2.0, "d": 1}, {"q": "2+2?", "a": "04", "d": 2}]
    columns = {"problem": "q", "answer": "a", "difficulty": "d"}
    (task,) = load(make_benchmark(tmp_path, rows, columns=columns, template="r1"))[:1]
    found = [(p.problem, p.answers, p.difficulty) for p in task.problems]
    assert found == [("1+1?", ("2",), 1), ("2+2?", ("04",), 2)]
    assert task.template is TEMPLATES["r1"] and task.total == 2


def test_every_file_format_gives_the_same_problems(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = [{"problem": 'a, "b"\nc', "answer": "025"}, {"problem": "d", "answer": "1e5"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    data = Dataset.from_list(rows)
    data.to_csv(str(tmp_path / "rows.csv"))
    data.to_parquet(str(tmp_path / "rows.parquet"))
    DatasetDict(test=data, train=data).save_to_disk(str(tmp_path / "rows"))
    (expected,) = load(make_benchmark(tmp_path, rows))
    assert [p.answers for p in expected.problems] == [("025",), ("1e5",)]
    for path in ("rows.json", "rows.csv", "rows.parquet"):
        assert load(make_benchmark(tmp_path, rows, path=path)) == [expected]
    assert load(make_benchmark(tmp_path, rows, path="rows", split="test")) == [expected]
    with pytest.raises(ValueError, match="split is None, expected one of test, train"):
        load(make_benchmark(tmp_path, rows, path="rows"))


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([{"q": "a", "answer": "1"}], {}, r"row 0: no column 'problem', found q, answer"),
        ([{"problem": "a", "answer": ""}], {}, "row 0: answer is ''"),
        ([], {}, "no rows"),
        ([{"problem": "a", "answer": "1"}], {"colums": {}}, r"colums: Extra inputs.*fields: name, path"),
        ([{"problem": "a", "answer": "1"}], {"path": "none.jsonl"}, "no file or folder"),
        ([{"problem": "a", "answer": "1"}], {"template": "llama"}, "template: got 'llama', expected one of"),
        ([{"problem": "a", "answer": "1"}], {"name": "aime"}, "name 'aime' is taken"),
    ],
)
def test_benchmark_files_that_cannot_be_used_say_why(tmp_path, rows, fields, message):
    with pytest.raises(ValueError, match=message):
        load(make_benchmark(tmp_path, rows, **fields))


def test_unknown_and_repeated_tasks_are_refused():
    with pytest.raises(ValueError, match="got 'gsm8k', expected some of aime"):
        load_tasks("none", ["gsm8k"], [], "qwen_math", None)
    with pytest.raises(ValueError, match="'aime' is named twice"):
        load_tasks("none", ["aime", "aime"], [], "qwen_math", None)


def test_base_template_for_a_chat_model_is_warned_about():
    tokenizer = make_tokenizer()
    assert template_warning(TEMPLATES["r1"], tokenizer) is None
    assert "splits into ordinary text" in str(template_warning(TEMPLATES["qwen_math"], tokenizer))
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    assert "chat_boxed" in str(template_warning(TEMPLATES["r1"], tokenizer))
    assert template_warning(TEMPLATES["chat_boxed"], tokenizer) is None
    tokenizer.add_tokens(["<|im_start|>"])
    tokenizer.chat_template = "<|im_start|>{{ messages[0].content }}"
    assert template_warning(TEMPLATES["qwen_math"], tokenizer) is None


def test_fingerprint_tells_further_trained_weights_apart(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(5 * 2**20))
    before = fingerprint(str(tmp_path), None)
    assert fingerprint(str(tmp_path), None) == before
    weights.write_bytes(bytes(5 * 2**20 - 1) + b"x")
    assert fingerprint(str(tmp_path), None) != before


def test_responses_never_outgrow_the_model(tmp_path):
    tasks = load(make_benchmark(tmp_path, [{"problem": "p" * 90, "answer": "1"}]), template_name="none")
    options = RunOptions("m", "none", tmp_path, max_model_len=100, max_tokens=50)
    (job,) = make_jobs(tasks, options, make_tokenizer())
    assert (len(job.request.token_ids or ()), job.request.max_tokens) == (90, 10)


@pytest.mark.parametrize("tasks", ["--tasks aime nope", "--tasks aime,nope", "--tasks aime --tasks nope"])
def test_tasks_are_separated_by_spaces_or_commas(tasks, tmp_path):
    command = [sys.executable, "-m", "eval", "run", "--model", "m", "--base-url", "x", *tasks.split(), "--limit", "3"]
    done = subprocess.run([*command, "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.split(",")[0]) == (2, "error: tasks: got 'nope'")


def test_help_is_quick_and_shows_defaults():
    start = time.monotonic()
    environment = {**os.environ, "COLUMNS": "200"}
    code = "import sys, eval.cli\nassert not {'torch', 'vllm', 'ray', 'numpy', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "eval", "run", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=True)
    assert time.monotonic() - start < 20
    assert "[default: qwen_math]" in done.stdout and "[default: 3000]" in done.stdout


def test_an_engine_on_cpu_gets_the_environment_that_training_gives_it(monkeypatch):
    from openrlhf_ktae import cpu_vllm
    from openrlhf_ktae.generation.engine import prepare_environment
    from openrlhf_ktae.training.cpu import ENGINE, ENVIRONMENT

    for name in cpu_vllm.ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if not prepare_environment():
        pytest.skip("vLLM's CPU kernels are not installed here")
    assert {name: os.environ[name] for name in cpu_vllm.ENVIRONMENT} == cpu_vllm.ENVIRONMENT
    assert cpu_vllm.ENVIRONMENT.items() <= ENVIRONMENT.items()
    assert cpu_vllm.ENGINE.items() <= ENGINE.items()
