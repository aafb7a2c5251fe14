"""Benchmark loading: counts, content, and what is refused."""

import pytest
from datasets import Dataset, DatasetDict
from shared_data import evaluation_suite

from openrlhf_ktae.tasks.math.benchmarks import BENCHMARKS, Problem, answers_of, fingerprint, load_benchmarks


def save_suite(folder, **tasks):
    DatasetDict({name: Dataset.from_list(rows) for name, rows in tasks.items()}).save_to_disk(str(folder))
    return folder


def test_shared_suite_has_the_published_counts():
    problems = load_benchmarks(evaluation_suite())
    assert {name: len(rows) for name, rows in problems.items()} == {
        "aime": 30,
        "amc": 83,
        "math": 500,
        "minerva": 272,
        "olympiad_bench": 675,
    }
    assert sum(answer.startswith("0") for row in problems["aime"] for answer in row.answers) == 7
    assert sum(row.answers[0].startswith("-") for row in problems["amc"]) == 2
    assert problems["amc"][0].answers == ("142",)
    assert sum(len(row.answers) > 1 for row in problems["minerva"]) == 75
    assert all(answer == answer.strip() for row in problems["minerva"] for answer in row.answers)
    assert problems["math"][0].difficulty == 2.0
    assert problems["minerva"][0].difficulty is None


def test_tasks_selects_and_keeps_the_asked_order():
    assert list(load_benchmarks(evaluation_suite(), tasks=["amc", "aime"])) == ["amc", "aime"]


def test_answer_cells_become_strings():
    assert answers_of(142.0) == ("142",)
    assert answers_of(-1.0) == ("-1",)
    assert answers_of(0.5) == ("0.5",)
    assert answers_of(7) == ("7",)
    assert answers_of("025") == ("025",)
    assert answers_of(["9.6\n", "", None]) == ("9.6",)
    assert answers_of(float("nan")) == ()
    assert answers_of(None) == ()


def test_wrong_count_is_refused(tmp_path):
    folder = save_suite(tmp_path / "suite", aime=[{"problem": "1+1?", "answer": "2"}])
    with pytest.raises(ValueError, match=r"'aime'.*1 problems, expected 30.*a benchmark of your own \(docs/evaluation"):
        load_benchmarks(folder, tasks=["aime"])


def test_changed_content_is_refused(tmp_path):
    folder = save_suite(tmp_path / "suite", aime=[{"problem": f"{i}+1?", "answer": str(i)} for i in range(30)])
    with pytest.raises(ValueError, match=f"fingerprint .* expected {BENCHMARKS['aime'].fingerprint}"):
        load_benchmarks(folder, tasks=["aime"])


def test_fingerprint_depends_on_answers_and_order():
    first, second = Problem("aime", 0, "a", ("1",)), Problem("aime", 1, "b", ("2",))
    prints = {
        fingerprint([first, second]),
        fingerprint([second, first]),
        fingerprint([first, Problem("aime", 1, "b", ("3",))]),
    }
    assert len(prints) == 3


def test_missing_answer_names_task_and_row(tmp_path):
    rows = [{"problem": "1+1?", "answer": "2"}, {"problem": "2+2?", "answer": ""}]
    folder = save_suite(tmp_path / "suite", math=rows)
    with pytest.raises(ValueError, match=r"'math', row 1: answer is ''"):
        load_benchmarks(folder, tasks=["math"])


def test_missing_column_task_and_folder_say_what_was_found(tmp_path):
    folder = save_suite(tmp_path / "suite", math=[{"question": "1+1?", "answer": "2"}])
    with pytest.raises(ValueError, match=r"no column 'problem', found question, answer"):
        load_benchmarks(folder, tasks=["math"])
    with pytest.raises(ValueError, match=r"no task 'amc', found math"):
        load_benchmarks(folder, tasks=["amc"])
    with pytest.raises(ValueError, match=r"got 'gsm8k', expected some of aime"):
        load_benchmarks(folder, tasks=["gsm8k"])
    with pytest.raises(ValueError, match=r"no file or folder '.*nowhere' \(looked in"):
        load_benchmarks(tmp_path / "nowhere")


def test_hub_path_needs_a_full_commit():
    with pytest.raises(ValueError, match=r"benchmarks: revision 'main' of owner/suite, expected a full commit hash"):
        load_benchmarks("owner/suite@main")
    with pytest.raises(ValueError, match=r"with its full commit hash: owner/suite@<commit>"):
        load_benchmarks("owner/suite")
