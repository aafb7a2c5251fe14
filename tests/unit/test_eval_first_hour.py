"""What a new user of the evaluation meets first: wrong lengths, the wrong place for the answer, a missing suite."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from eval.cli import app
from eval.grading import grade_file
from eval.model import check_context
from eval.options import RunOptions
from eval.records import difficulty_of
from eval.show import print_results
from eval.suite import load_tasks
from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(make_model(0, max_length=64), make_tokenizer(), folder)
    return folder


def test_more_tokens_than_the_model_has_positions_name_the_option(model, tmp_path):
    check_context(str(model), None, 64)
    with pytest.raises(ValueError, match=r"max-model-len: got 65 .* has 64 positions; pass --max-model-len 64"):
        check_context(str(model), None, 65)
    arguments = ["run", "--model", str(model), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "max-model-len" in result.output) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_model_with_scaled_positions_is_left_to_vllm(model, tmp_path):
    config = json.loads((model / "config.json").read_text())
    scaled = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    key = "rope_parameters" if "rope_parameters" in config else "rope_scaling"
    (tmp_path / "config.json").write_text(json.dumps(config | {key: (config.get(key) or {}) | scaled}))
    check_context(str(tmp_path), None, 4096)


@pytest.mark.parametrize(("value", "number"), [(3, 3.0), ("3", 3.0), ("Level 3", 3.0), ("level 5", 5.0), (None, None)])
def test_difficulties_may_be_written_as_in_math(value, number):
    assert difficulty_of(value) == number


@pytest.mark.parametrize("value", ["Level ?", "hard"])
def test_other_words_are_no_difficulty(value):
    with pytest.raises(ValueError, match="expected a number"):
        difficulty_of(value)


def test_a_missing_suite_is_reported_as_a_missing_folder():
    with pytest.raises(
        ValueError, match=r"no file or folder 'data/absent_suite' \(looked in .*data/absent_suite@<commit>"
    ):
        load_tasks("data/absent_suite", ["aime"], [], "qwen_math", None)


def graded(tmp_path, style):
    rows = [{"task": "t", "problem": str(i), "answer": "1", "output": "so #1"} for i in range(20)]
    (tmp_path / "answers.json").write_text(json.dumps(rows))
    results = grade_file(tmp_path / "answers.json", tmp_path / f"graded-{style}", style)
    console = Console(record=True, width=300)
    print_results(results, console)
    return console.export_text()


def test_answers_in_another_place_than_looked_for_are_hinted_at(tmp_path):
    shown = graded(tmp_path, "boxed")
    assert "only 0.0% of the responses have an answer where it was looked for (--answer-style boxed)" in shown
    assert "only" not in graded(tmp_path, "hash")


def test_the_place_of_the_answer_comes_from_benchmark_or_command_line(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"problem": "1", "answer": "1"}))
    benchmark = tmp_path / "mine.yaml"
    benchmark.write_text("{name: mine, path: rows.jsonl, answer_style: hash}")
    assert load_tasks("none", None, [benchmark], "qwen_math", None)[0].template.answer_style == "hash"
    benchmark.write_text("{name: mine, path: rows.jsonl, answer_style: below}")
    with pytest.raises(ValueError, match="answer_style"):
        load_tasks("none", None, [benchmark], "qwen_math", None)
    with pytest.raises(ValueError, match="answer-style: got below, expected one of boxed, tags, hash, auto"):
        RunOptions("m", "none", tmp_path, answer_style="below").check()


def test_five_tasks_and_their_average_fit_into_eighty_columns():
    row = {"k": 16, "n": 675, "pass@1": 0.513, "ci95": [0.48, 0.546], "maj@k": 0.6, "pass@16": 0.8, "formatted": 1.0}
    row |= {"truncated": 0.0123, "mean_tokens": 1024.6, "median_tokens": 998, "max_tokens": 3000}
    names = ("aime", "amc", "math", "minerva", "olympiad_bench")
    results = {"tasks": dict.fromkeys(names, row), "average": row, "partial": False, "partial_because": []}
    console = Console(record=True, width=80)
    print_results(results | {"settings": {}, "grader": {}}, console)
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
    for whole in ("AIME 2024", "MATH- 500", "Minerva", "Average", "pass@1 %", "51.3", "tokens, median", "truncated %"):
        assert all(word in shown for word in whole.split()), whole
