"""Saved outputs of other evaluation programs, by shape; records that cannot be read are named and counted."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from eval.grading import grade_file
from eval.records import read_records
from eval.saved_outputs import read_samples

ROOT = Path(__file__).resolve().parents[2]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def harness_row(number, target, responses, **more):
    return {
        "doc_id": number,
        "doc": {"question": f"question {number}", "answer": target},
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": f"Q: question {number}\nA:", "arg_1": {"until": ["\n\n"]}}},
        "resps": [responses],
        "filtered_resps": ["7"],
        "exact_match": 0.0,
        **more,
    }


def test_lm_evaluation_harness_with_its_filters_counted_once(tmp_path):
    rows = [
        harness_row(0, "so 3 + 4 = 7\n#### 7", [r"\boxed{7}", r"\boxed{8}"], filter="strict-match"),
        harness_row(1, r"Thus \boxed{\frac12}.", [r"\boxed{0.5}", "none"], filter="strict-match"),
        harness_row(0, "so 3 + 4 = 7\n#### 7", [r"\boxed{7}", r"\boxed{8}"], filter="flexible-extract"),
        harness_row(1, r"Thus \boxed{\frac12}.", [r"\boxed{0.5}", "none"], filter="flexible-extract"),
    ]
    path = write_lines(tmp_path / "samples_gsm8k_2024-08-01T10-11-12.123456.jsonl", rows)
    results = grade_file(path, tmp_path / "out", None)
    assert results["tasks"]["gsm8k"]["n"] == 2
    assert results["tasks"]["gsm8k"]["avg@k"] == 0.5
    first = read_samples(path)[0]
    assert (first.problem, first.answers, first.prompt) == ("question 0", ("7",), "Q: question 0\nA:")


def test_older_harness_records_hold_their_arguments_in_lists(tmp_path):
    row = {**harness_row(3, "12", [r"\boxed{12}"]), "arguments": [["Q: three\nA:", {"until": []}]], "doc": {}}
    (sample,) = read_samples(write_lines(tmp_path / "anything.jsonl", [row]))
    assert (sample.task, sample.problem, sample.index) == ("anything", "Q: three\nA:", 3)


def test_lighteval_details_in_parquet(tmp_path):
    rows = [
        {
            "doc": {
                "query": f"problem {number}",
                "choices": ["unused", answer],
                "gold_index": [1],
                "task_name": "lighteval|math_500|0",
            },
            "model_response": {"text": [rf"\boxed{{{answer}}}", r"\boxed{0}"], "output_tokens": [[1, 2, 3], [1]]},
            "metric": {"extractive_match": 1},
        }
        for number, answer in enumerate(["5", r"2\sqrt{2}"])
    ]
    path = tmp_path / "details_lighteval|math_500|0_2025-01-02T03-04-05.000000.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    row = grade_file(path, tmp_path / "out", None)["tasks"]["lighteval|math_500|0"]
    assert (row["n"], row["avg@k"], row["max_tokens"]) == (2, 0.5, 3)


def test_earlier_lighteval_details_hold_lists_as_text(tmp_path):
    row = {"full_prompt": "What is 2 + 3?", "gold": "['5']", "predictions": r"['so \\boxed{5}']", "example": "2 + 3"}
    (sample,) = read_samples(write_lines(tmp_path / "details_custom|aime24|0_2025-01-02T03-04-05.000.jsonl", [row]))
    assert (sample.task, sample.problem, sample.answers) == ("custom|aime24|0", "What is 2 + 3?", ("5",))
    assert sample.output == r"so \boxed{5}"


def test_opencompass_predictions(tmp_path):
    turns = [{"role": "HUMAN", "prompt": "What is 2 + 3?"}, {"role": "BOT", "prompt": ""}]
    content = {
        "0": {"origin_prompt": turns, "prediction": r"\boxed{5}", "gold": "5"},
        "1": {
            "origin_prompt": "What is half of one?",
            "prediction": r"\boxed{2}",
            "gold": r"It is \boxed{\frac{1}{2}}",
        },
    }
    path = tmp_path / "math.json"
    path.write_text(json.dumps(content))
    assert grade_file(path, tmp_path / "out", None)["tasks"]["math"]["pass@1"] == 0.5
    assert [sample.problem for sample in read_samples(path)] == ["What is 2 + 3?", "What is half of one?"]


def test_the_authors_lists_of_lists_and_prompts_without_a_problem(tmp_path):
    rows = [
        {"task_name": "minerva", "prompt": "the template", "gt": [[answer]], "model_output": [rf"\boxed{{{output}}}"]}
        for answer, output in (("9.6\n", "9.6"), ("2", "3"), ("2", "2"))
    ]
    path = tmp_path / "GRPO.json"
    path.write_text(json.dumps(rows))
    results = grade_file(path, tmp_path / "out", None)
    assert (results["tasks"]["minerva"]["n"], results["tasks"]["minerva"]["k"]) == (3, 1)
    assert [record.correct for record in read_records(tmp_path / "out" / "outputs.jsonl")] == [True, False, True]


BROKEN = [
    {"task": "t", "problem": "a", "answer": "1", "output": r"\boxed{1}"},
    {"task": "t", "problem": "b", "answer": "", "output": r"\boxed{1}"},
    {"task": "t", "problem": "c", "output": r"\boxed{1}"},
    {"origin_prompt": "x", "prediction": "5"},
    {"doc": {"query": "q", "choices": [], "gold_index": 0}, "model_response": {"text": ["5"]}},
    {"task": "t", "problem": "d", "answer": "4", "output": r"\boxed{4}"},
]


def test_unreadable_records_are_named_counted_and_left_out(tmp_path):
    path = write_lines(tmp_path / "broken.jsonl", BROKEN)
    with path.open("a") as file:
        file.write('{"task": "t"\n7\n')
    named = []
    results = grade_file(path, tmp_path / "out", None, on_unreadable=named.append)
    assert (results["tasks"]["t"]["n"], results["tasks"]["t"]["pass@1"]) == (2, 1.0)
    assert results["unreadable"]["records"] == len(named) == 6
    assert "6 records cannot be read" in results["partial_because"]
    assert [record.split(":")[0] for record in named] == [f"line {n}" for n in (2, 3, 4, 5, 7, 8)]
    assert "no gold" in named[2] and "no reference answer" in named[3] and "not JSON" in named[4]
    with pytest.raises(ValueError, match="line 2: label: got ''"):
        grade_file(path, tmp_path / "strict", None)


def test_a_file_without_a_readable_record_says_why(tmp_path):
    path = write_lines(tmp_path / "broken.jsonl", BROKEN[1:3])
    with pytest.raises(ValueError, match=r"no records.*2 cannot be read: line 1: label.*line 2: no answers"):
        grade_file(path, tmp_path / "out", None, on_unreadable=lambda _: None)


def test_the_command_goes_on_unless_it_is_strict(tmp_path):
    path = write_lines(tmp_path / "broken.jsonl", BROKEN)
    command = [sys.executable, "-m", "eval", "grade", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"warning: 4 records of {path} cannot be read" in done.stderr
    strict = subprocess.run([*command, "--strict"], cwd=ROOT, capture_output=True, text=True)
    assert strict.returncode == 2
    assert strict.stderr.startswith(f"error: {path}, line 2: label: got ''")
