"""Grading files of others: every record shape, every kind of accepted answer, the verdicts that a person gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from eval.grading import equivalence, grade_file
from eval.records import read_records

ROOT = Path(__file__).resolve().parents[2]

# (record, answers found, verdicts that a person gives)
ROWS = [
    ({"task": "amc", "problem": "p0", "answer": 142.0, "output": r"So \boxed{142}."}, ["142"], [True]),
    ({"task": "amc", "problem": "p1", "answer": -1.0, "output": r"\boxed{1}"}, ["1"], [False]),
    ({"task": "aime", "problem": "p2", "answer": "025", "output": r"\boxed{25}"}, ["25"], [True]),
    ({"task_name": "aime", "prompt": "p3", "gt": "073", "model_output": r"\boxed{73^\circ}"}, [r"73^\circ"], [True]),
    ({"task_name": "minerva", "prompt": "p4", "gt": ["9.6\n", "9.7"], "model_output": r"\boxed{9.70}"}, ["9.70"],
     [True]),
    ({"task": "minerva", "problem": "p5", "answer": ["1.2e-27"], "output": r"\boxed{5e-28}"}, ["5e-28"], [False]),
    (
        {"task": "math", "problem": "p6", "answer": r"\left( 3, \frac{\pi}{2} \right)",
         "outputs": [r"\boxed{(3, \pi/2)}", r"\boxed{(\frac\pi2, 3)}", "no box"]},
        [r"(3, \pi/2)", r"(\frac\pi2, 3)", None],
        [True, False, False],
    ),
    ({"task": "math", "problem": "p7", "answer": r"\frac{1}{2}", "output": [r"\boxed{0.5}"]}, ["0.5"], [True]),
    ({"task": "math", "problem": "p8", "answer": "x + a", "output": r"\boxed{x + c}"}, ["x + c"], [False]),
    ({"task": "math", "problem": "p9", "answer": "5", "output": "the answer is 5"}, [None], [False]),
    ({"task": "math", "problem": "p10", "answer": 7, "output": r"\boxed{1} no, \boxed{x = 7}"}, ["x = 7"], [True]),
]  # fmt: skip


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_record_shape_gets_a_persons_verdict(tmp_path):
    path = write_lines(tmp_path / "answers.jsonl", [row for row, _, _ in ROWS])
    results = grade_file(path, tmp_path / "out", None)
    found = {(r.problem, r.sample): (r.answer, r.correct) for r in read_records(tmp_path / "out" / "outputs.jsonl")}
    expected = {
        (row.get("problem") or row["prompt"], sample): (answers[sample], verdicts[sample])
        for row, answers, verdicts in ROWS
        for sample in range(len(verdicts))
    }
    assert found == expected
    assert results["tasks"]["aime"]["pass@1"] == 1.0
    assert results["tasks"]["math"]["formatted"] == pytest.approx(5 / 7)
    assert "aime: 2 of 30 problems" in results["partial_because"]


def test_graded_twice_gives_identical_bytes(tmp_path):
    path = write_lines(tmp_path / "answers.jsonl", [row for row, _, _ in ROWS])
    for name in ("one", "two"):
        grade_file(path, tmp_path / name, None)
    names = {"settings.json", "outputs.jsonl", "results.json"}
    assert {file.name for file in (tmp_path / "one").iterdir()} == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_list_of_records_and_lists_per_task_equal_json_lines(tmp_path):
    rows = [row for row, _, _ in ROWS if "task" in row]
    write_lines(tmp_path / "lines.jsonl", rows)
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=2))
    per_task = {}
    for row in rows:
        per_task.setdefault(row["task"], []).append({key: value for key, value in row.items() if key != "task"})
    (tmp_path / "tasks.json").write_text(json.dumps(per_task))
    records = []
    for name in ("lines.jsonl", "list.json", "tasks.json"):
        grade_file(tmp_path / name, tmp_path / f"{name}.out", None)
        records.append(read_records(tmp_path / f"{name}.out" / "outputs.jsonl"))
    assert records[0] == records[1] == records[2]


def test_one_record_per_sample_counts_as_samples_of_one_problem(tmp_path):
    rows = [{"task": "t", "problem": "p", "answer": "1", "output": text} for text in (r"\boxed{1}", r"\boxed{2}")]
    row = grade_file(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out", None)["tasks"]["t"]
    assert (row["n"], row["k"], row["pass@1"], row["pass@2"]) == (1, 2, 0.5, 1.0)


def test_majority_joins_equivalent_spellings(tmp_path):
    texts = [r"\boxed{3}", r"\boxed{\frac12}", r"\boxed{0.5}", r"\boxed{3}", r"\boxed{1/2}"]
    row = {"task": "t", "problem": "p", "answer": r"\dfrac{1}{2}", "outputs": texts}
    metrics = grade_file(write_lines(tmp_path / "a.jsonl", [row]), tmp_path / "out", None)["tasks"]["t"]
    assert (metrics["avg@k"], metrics["maj@k"]) == (0.6, 1.0)


def test_equivalence_of_hostile_answers_ends():
    assert equivalence()("9^{9^{9^{9}}}", "9^{9^{9^{8}}}") is False
    assert equivalence()("{" * 5000, "1") is False


def test_lengths_come_from_token_ids_or_counts(tmp_path):
    rows = [
        {"task": "t", "problem": "a", "answer": "1", "model_output": ["x", "y"],
         "model_output_token_ids": [[1, 2], [3]]},
        {"task": "t", "problem": "b", "answer": "1", "outputs": ["x", "y"], "tokens": [4, 5],
         "finish_reason": ["stop", "length"]},
    ]  # fmt: skip
    row = grade_file(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out", None)["tasks"]["t"]
    assert (row["mean_tokens"], row["median_tokens"], row["max_tokens"], row["truncated"]) == (3.0, 3.0, 5, 0.5)


def test_tags_are_looked_at_where_asked(tmp_path):
    row = {"task": "t", "problem": "a", "answer": "7", "output": r"<answer> 7 </answer>"}
    path = write_lines(tmp_path / "a.jsonl", [row])
    assert grade_file(path, tmp_path / "boxed", None)["tasks"]["t"]["pass@1"] == 0.0
    assert grade_file(path, tmp_path / "tags", "tags")["tasks"]["t"]["pass@1"] == 1.0


def test_our_own_outputs_grade_to_the_same_results(tmp_path):
    first = grade_file(write_lines(tmp_path / "a.jsonl", [row for row, _, _ in ROWS]), tmp_path / "one", None)
    again = grade_file(tmp_path / "one" / "outputs.jsonl", tmp_path / "two", None)
    assert first["tasks"] == again["tasks"]
    assert (tmp_path / "one" / "outputs.jsonl").read_bytes() == (tmp_path / "two" / "outputs.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds the file that is to be graded"):
        grade_file(tmp_path / "one" / "outputs.jsonl", tmp_path / "one", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no records"),
        ("[]", "no records"),
        (
            '{"task": "t", "problem": "p", "answer": "1"}\n',
            r"record 1: no outputs or output or model_output \(found task",
        ),
        ('{"task": "t", "problem": "p", "answer": "1", "output": "x"}\n{"task": "t"', "line 2: not JSON"),
        ('{"task": "t", "problem": "p", "answer": "1", "output": "x"}\n7\n', "line 2: int, expected an object"),
        ('[{"task": "t", "problem": "p", "answer": "", "output": "x"}]', "record 1: label: got ''"),
        ('[{"task": "t", "problem": "p", "answer": "1", "output": 5}]', "output: got 5"),
        ('[{"task": "t", "problem": "p", "answer": "1", "outputs": []}]', "an empty list"),
        ('[{"problem": "p", "answer": "1", "output": "x"}]', "no task or task_name"),
        (
            '[{"task": "t", "problem": "p", "answer": "1", "output": "x", "difficulty": "hard"}]',
            "difficulty: got 'hard'",
        ),
        ('[{"task": "t", "problem": "p", "answer": "1", "output": "x", "index": "7"}]', "index: got '7'"),
    ],
)
def test_files_that_cannot_be_graded_say_why_and_where(tmp_path, text, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        grade_file(path, tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_command_line_ends_with_one_line_on_bad_input(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    done = subprocess.run([sys.executable, "-m", "eval", "grade", str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {path}: no records; expected at least one, as JSON lines or as a JSON list\n"


def test_an_interrupted_command_that_keeps_nothing_says_nothing_of_keeping(capsys):
    from eval.cli import _clear_errors

    with pytest.raises(typer.Exit) as end, _clear_errors():
        raise KeyboardInterrupt
    assert (end.value.exit_code, capsys.readouterr().err) == (130, "error: interrupted\n")
