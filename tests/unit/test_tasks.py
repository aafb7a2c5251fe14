"""What holds of every task: the table, the documents, the reward, the evaluation."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from eval import suite
from eval.grading import grade_samples
from eval.saved_outputs import Sample
from eval.suite import load_tasks
from openrlhf_ktae.recipe import RecipeError, resolve
from openrlhf_ktae.reward.rollouts import rewards_of
from openrlhf_ktae.tasks import TASKS, reward
from openrlhf_ktae.tasks.math.benchmarks import BENCHMARKS, DEFAULT_SUITE, Benchmark
from openrlhf_ktae.tasks.task import TASK, BaseTask, MadeOptions

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "openrlhf_ktae" / "tasks"
QUICKSTART = ROOT / "recipes" / "quickstart"


def test_the_table_is_the_folder():
    modules = [*FOLDER.glob("*.py"), *FOLDER.glob("*/__init__.py")]
    found = {
        path.parent.name if path.name == "__init__.py" else path.stem
        for path in modules
        if re.search(r"^class Task\(", path.read_text(), flags=re.MULTILINE)
    }
    assert found == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_light_and_whole(name):
    heavy = ("torch", "ray", "vllm", "transformers")
    code = f"import sys, openrlhf_ktae.tasks.{name}; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"
    task = TASK.load(name)
    made = task(task.Options())
    assert isinstance(made, BaseTask) and "{q}" in made.template.text
    assert bool(made.prompt_sets()) == isinstance(made.options, MadeOptions)
    for rows in made.prompt_sets().values():
        row = next(iter(rows))
        (verdict,) = made.verdicts([("", made.decode_label(row["label"]))])
        assert not verdict.correct and not verdict.failed
        assert task(task.Options()).reward(verdict) <= 0
    with pytest.raises(ValueError, match="label"):
        made.decode_label(None)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_a_row_in_the_documents(name):
    assert f"| `{name}`" in (ROOT / "docs" / "tasks.md").read_text()


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(RecipeError, match=r"task\.name: 'chess' is unknown; known: arithmetic, "):
        resolve(QUICKSTART, ["task.name=chess"])


def test_options_of_a_task_are_checked_whether_it_is_used_or_not():
    with pytest.raises(RecipeError, match=r"arithmetic\.warmup_noise: got 2"):
        resolve(QUICKSTART, ["task.name=math", "arithmetic.warmup_noise=2"])
    with pytest.raises(RecipeError, match=r"arithmetic\.warmup_nois: unknown option; did you mean arithmetic"):
        resolve(QUICKSTART, ["arithmetic.warmup_nois=2"])


def test_the_reward_of_a_run_needs_its_task(monkeypatch):
    monkeypatch.delenv(reward.TASK_VARIABLE, raising=False)
    reward.task.cache_clear()
    with pytest.raises(ValueError, match="OPENRLHF_KTAE_TASK: not set"):
        reward.reward_func(["p"], ["p"], ["1"])


def test_the_example_of_the_documents_is_a_task_by_path_whose_reward_is_no_verdict(tmp_path):
    page = (ROOT / "docs" / "tasks.md").read_text()
    (tmp_path / "capital.py").write_text(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0])
    task = resolve(QUICKSTART, [f"task.name={tmp_path / 'capital.py'}", "capital.bonus=0.25"]).make_task()
    prompts = [task.template.render(country) for country in ("France", "Peru", "Peru", "Peru")]
    queries = [prompt + answer for prompt, answer in zip(prompts, (" PARIS", " Lima.", " QUITO", " Lima"), strict=True)]
    labels = ["Paris", "Lima", "Lima", None]
    result = rewards_of(queries, prompts, labels, task.decode_label, task.verdicts, task.reward)
    assert result["rewards"].tolist() == [1.25, 1, 0.25, 0]
    assert result["scores"].tolist() == [1, 1, 0, 0]
    assert result["extra_logs"]["grader_error"].tolist() == [0, 0, 0, 1]
    reasons = [verdict.reason for verdict in task.verdicts([("PARIS", "Paris"), ("Quito", "Lima"), (" ", "Lima")])]
    assert reasons == ["correct", "different", "no answer"]


def test_a_further_benchmark_changes_no_default_run(monkeypatch):
    asked = []
    monkeypatch.setitem(BENCHMARKS, "aaa", Benchmark("aaa", "AAA", 1, "0" * 16))
    monkeypatch.setattr(suite, "load_benchmarks", lambda data, names: asked.extend(names) or {})
    with pytest.raises(KeyError, match="aime"):
        load_tasks("none", None, [], "qwen_math", None)
    assert tuple(asked) == DEFAULT_SUITE


def test_a_benchmark_of_a_task_is_asked_and_graded_as_the_task_says(tmp_path, monkeypatch):
    rows = [{"input": "1+1*2-0*3+4=", "label": "6"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shipped = yaml.safe_load(suite.SHIPPED["arithmetic"].read_text())
    (tmp_path / "arithmetic.yaml").write_text(yaml.safe_dump(shipped | {"path": "rows.jsonl"}))
    monkeypatch.setitem(suite.SHIPPED, "arithmetic", tmp_path / "arithmetic.yaml")
    (task,) = load_tasks("none", ["arithmetic"], [], "qwen_math", None)
    assert (task.template.render(task.problems[0].problem), task.verifier) == ("1+1*2-0*3+4=", "arithmetic")
    samples = [Sample("arithmetic", 0, n, "", ("6",), None, ("#6", "6")[n], None, None, None) for n in range(2)]
    graded = grade_samples(samples, {"arithmetic": task.template.answer_style}, verifiers={"arithmetic": task.verifier})
    assert [(record.correct, record.formatted) for record in graded] == [(True, True), (False, False)]
