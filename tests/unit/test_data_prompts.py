"""Prompt sets: each source format, what is refused, what is left out, and equal bytes."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shared_data import evaluation_suite
from typer.testing import CliRunner

from openrlhf_ktae.cli import app
from openrlhf_ktae.reward.math_reward import decode_label
from openrlhf_ktae.reward.rollouts import check_labels
from openrlhf_ktae.tasks.math.benchmarks import Problem, load_benchmarks
from openrlhf_ktae.tasks.math.make import parse_levels
from openrlhf_ktae.tasks.math.prompts import benchmark_prompts, make_prompts
from openrlhf_ktae.tasks.math.sources import SourceRow, read_source
from openrlhf_ktae.tasks.prompt_set import write_prompts
from openrlhf_ktae.tasks.templates import template

NONE = template("none")
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_math_takes_the_boxed_answer_and_the_level(tmp_path):
    row = {"problem": "Half of 3?", "level": "Level 4", "solution": r"It is $\boxed{\frac{3}{2}}$."}
    path = write_lines(tmp_path / "math.jsonl", [row])
    assert read_source(path, "math").rows == (SourceRow("Half of 3?", (r"\frac{3}{2}",), 4),)


def test_gsm8k_takes_what_follows_the_hashes(tmp_path):
    path = write_lines(tmp_path / "g.jsonl", [{"question": "1000+234?", "answer": "1000+234=1234\n#### 1,234"}])
    assert read_source(path, "gsm8k").rows == (SourceRow("1000+234?", ("1,234",)),)


def test_dapo_drops_the_instructions_around_the_problem(tmp_path):
    content = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\nWhat is 6*7?\n\nExactly.\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    table = [{"prompt": [{"role": "user", "content": content}], "reward_model": {"ground_truth": "42"}}]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "dapo.parquet")
    assert read_source(tmp_path / "dapo.parquet", "dapo").rows == (SourceRow("What is 6*7?\n\nExactly.", ("42",)),)


def test_columns_read_jsonl_json_parquet_and_folders_alike(tmp_path):
    rows = [{"q": "2+2?\u2028", "a": 4.0}, {"q": "1 or 2?", "a": 1.5}]
    write_lines(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    expected = [SourceRow("2+2?", ("4",)), SourceRow("1 or 2?", ("1.5",))]
    for name in ("a.jsonl", "b.json", "c.parquet"):
        assert read_source(tmp_path / name, "columns", "q", "a").rows == tuple(expected)
    assert read_source(tmp_path, "columns", "q", "a").rows == tuple(expected) * 3


def test_rows_without_an_answer_are_refused_by_number(tmp_path):
    rows = [{"problem": "a", "answer": "1"}, {"problem": "b", "answer": " "}, {"problem": "c", "answer": None}]
    with pytest.raises(ValueError, match=r"2 rows without a problem or an answer \(rows 2, 3\)"):
        read_source(write_lines(tmp_path / "x.jsonl", rows))


def test_missing_columns_files_and_revisions_say_what_to_do(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", [{"question": "a", "answer": "1"}])
    with pytest.raises(ValueError, match=r"row 1: no column 'problem', found question, answer"):
        read_source(path)
    with pytest.raises(ValueError, match=r"source: revision 'main' of owner/name, expected a full commit hash"):
        read_source("owner/name@main")
    with pytest.raises(ValueError, match=r"source: no file or folder 'nowhere\.jsonl' \(looked in .*\); pass one"):
        read_source("nowhere.jsonl")
    with pytest.raises(ValueError, match=r"got suffix '.txt'"):
        (tmp_path / "x.txt").write_text("problem,answer\n")
        read_source(tmp_path / "x.txt")
    with pytest.raises(ValueError, match="format: got 'csv', expected one of columns, math, gsm8k, dapo"):
        read_source(path, "csv")  # pyright: ignore[reportArgumentType]


def test_unreachable_hub_says_how_to_go_on(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"cannot be fetched from the Hub.*pass the local folder"):
        read_source(f"nobody-here/no-such-set@{'0' * 40}")


def test_thirteen_words_in_common_are_removed_and_twelve_are_not():
    suite = {"math": [Problem("math", 0, f"Start. {LONG}!", ("1",)), Problem("math", 1, "What is $1+1$?", ("2",))]}
    twelve = LONG.rsplit(" ", 1)[0]
    rows = [SourceRow(text, ("1",)) for text in (f"{LONG.upper()} more", f"{twelve} other", "what is 1 + 1", "2+2?")]
    made = make_prompts(rows, NONE, "d", benchmarks=suite)
    assert [row["input"] for row in made.rows] == [f"{twelve} other", "2+2?"]
    assert (made.read, made.contaminated) == (4, {"math": 2})


def test_levels_and_duplicates_are_counted():
    rows = [SourceRow("a", ("1",), 2), SourceRow("b", ("2",), 3), SourceRow("b", ("2",), 3), SourceRow("c", ("3",), 5)]
    made = make_prompts(rows, NONE, "math", levels=parse_levels("3-5"))
    assert ([row["input"] for row in made.rows], made.other_level, made.duplicates) == (["b", "c"], 1, 1)
    with pytest.raises(ValueError, match="none of 1 rows has a level"):
        make_prompts([SourceRow("a", ("1",))], NONE, "d", levels=[3])


@pytest.mark.parametrize("text", ["", "0", "6", "5-3", "3-", "a", "3-5-7"])
def test_bad_levels_are_refused(text):
    with pytest.raises(ValueError, match="levels: got"):
        parse_levels(text)


def test_several_answers_survive_the_label(tmp_path):
    suite = {"minerva": [Problem("minerva", 0, "q", ("\\frac{1}{2}", "0.5")), Problem("minerva", 1, "r", ("(1,2)",))]}
    write_prompts(benchmark_prompts(suite, NONE), tmp_path / "e.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [decode_label(row["label"]) for row in rows] == [("\\frac{1}{2}", "0.5"), ("(1,2)",)]
    assert {row["datasource"] for row in rows} == {"minerva"}


def test_every_benchmark_problem_is_found_in_the_suite_and_labels_are_readable():
    suite = load_benchmarks(evaluation_suite())
    problems = [SourceRow(p.problem, p.answers) for rows in suite.values() for p in rows]
    made = make_prompts([*problems, SourceRow("How many apples are 3 apples?", ("3",))], NONE, "d", benchmarks=suite)
    assert [row["input"] for row in made.rows] == ["How many apples are 3 apples?"]
    assert sum(made.contaminated.values()) + made.duplicates == len(problems) == 1560
    rows = benchmark_prompts(suite, NONE)
    check_labels([row["label"] for row in rows], decode_label)
    expected = [problem.answers for task in suite.values() for problem in task]
    assert [decode_label(row["label"]) for row in rows] == expected


def test_command_writes_equal_bytes_for_equal_input_and_says_what_it_left_out(tmp_path):
    source = write_lines(tmp_path / "s.jsonl", [{"problem": r"$\frac{é}{2}$", "answer": "1"}] * 2)
    outputs = []
    for name in ("a.jsonl", "b.jsonl"):
        result = CliRunner().invoke(app, ["data", str(tmp_path / name), "--source", str(source)])
        assert result.exit_code == 0, result.output
        assert "1 prompts of 2 rows" in result.output
        assert "1 duplicates; not checked" in result.output
        outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1]
    row = json.loads(outputs[0])
    assert row == {"input": template("qwen_math").render(r"$\frac{é}{2}$"), "label": "1", "datasource": "columns"}


def test_command_without_anything_to_write_fails_with_the_way_out(tmp_path):
    result = CliRunner().invoke(app, ["data", str(tmp_path / "a.jsonl")])
    assert result.exit_code == 2
    assert "give --source" in result.output
    assert not (tmp_path / "a.jsonl").exists()


def test_of_a_folder_only_the_training_split_is_read_unless_asked(tmp_path):
    for name in ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl", "more.jsonl", "data/training_2.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_lines(tmp_path / name, [{"problem": name, "answer": "1"}])
    (tmp_path / "dataset_infos.json").write_text('{"default": {}}')

    def read(**choice):
        return [row.problem for row in read_source(tmp_path, **choice).rows]

    assert read() == ["data/training_2.jsonl", "more.jsonl", "train-00000-of-00001.jsonl"]
    assert read(split="test") == ["more.jsonl", "test-00000-of-00001.jsonl"]
    assert len(read(split="all")) == 4
    (tmp_path / "more.jsonl").unlink()
    with pytest.raises(ValueError, match=r"split: no file of 'dev'; found test, train"):
        read(split="dev")
