"""Presets against small files of the same shape, and what `data` does to choose rows. Nothing is fetched."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from openrlhf_ktae.cli import app
from openrlhf_ktae.tasks.math.presets import PRESETS
from openrlhf_ktae.tasks.tiny_model import make_tokenizer

ROOT = Path(__file__).resolve().parents[2]


def parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def math(folder):
    for subject in ("algebra", "geometry"):
        for split in ("train", "test"):
            rows = [
                {
                    "problem": f"{subject} {split} {i}?",
                    "level": f"Level {i}",
                    "type": subject,
                    "solution": f"\\boxed{{{i}}}",
                }
                for i in range(1, 6)
            ]
            if subject == "geometry":
                rows.append(rows[0] | {"problem": f"odd {split}", "level": "Level ?"})  # MATH has such
            parquet(folder / subject / f"{split}-00000-of-00001.parquet", rows)


def gsm8k(folder):
    for config in ("main", "socratic"):
        for split in ("train", "test"):
            rows = [{"question": f"{split} {i}?", "answer": f"{config} <<1+1=2>>\n#### {i}"} for i in range(4)]
            parquet(folder / config / f"{split}-00000-of-00001.parquet", rows)


def dapo(folder):
    text = (
        "Solve the following math problem step by step. The last line is the answer.\n\n"
        '{}?\n\nRemember to put your answer on its own line after "Answer:".'
    )
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": text.format(i), "role": "user"}],
            "reward_model": {"ground_truth": str(i), "style": "rule"},
        }
        for i in [*range(5), *range(5)]  # the published file repeats its rows
    ]
    parquet(folder / "data" / "dapo-math-17k.parquet", rows)


def data(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)], env={"COLUMNS": "400"})


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "make", "count", "first"),
    [
        ("math_train", math, 11, ("algebra train 1?", "1")),
        ("math_levels_3_to_5", math, 6, ("algebra train 3?", "3")),
        ("math_test", math, 11, ("algebra test 1?", "1")),
        ("gsm8k_train", gsm8k, 4, ("train 0?", "0")),
        ("gsm8k_test", gsm8k, 4, ("test 0?", "0")),
        ("dapo_17k", dapo, 5, ("0?", "0")),
    ],
)
def test_a_preset_reads_a_local_copy_of_its_source(tmp_path, name, make, count, first):
    make(tmp_path / "copy")
    done = data(tmp_path / "out.jsonl", "--preset", name, "--source", tmp_path / "copy", "--template", "none")
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "out.jsonl")
    assert len(rows) == count and f"{count} prompts of" in done.output
    assert (rows[0]["input"], rows[0]["label"], rows[0]["datasource"]) == (*first, name)


def test_every_preset_names_a_commit_and_is_documented():
    documented = (ROOT / "docs" / "data.md").read_text()
    for name, preset in PRESETS.items():
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", preset.source)
        assert f"`{name}`" in documented and preset.source.split("@")[0] in documented
        assert preset.source.split("@")[1] in documented


def test_an_unknown_preset_or_another_format_is_refused(tmp_path):
    assert "expected one of math_train" in data(tmp_path / "o", "--preset", "maths").output
    assert "preset gsm8k_train is gsm8k" in data(tmp_path / "o", "--preset", "gsm8k_train", "--format", "dapo").output


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.jsonl"
    path.write_text("".join(json.dumps({"problem": f"p{i}", "answer": str(i)}) + "\n" for i in range(50)))
    return path


def test_a_held_out_set_is_apart_from_the_sample_and_the_same_for_every_size(tmp_path, source):
    choices = ("--source", source, "--template", "none", "--holdout", 10, "--seed", 3)
    held_out = []
    for size in (5, 20):
        output, apart = tmp_path / f"{size}.jsonl", tmp_path / f"{size}_held_out.jsonl"
        done = data(output, *choices, "--sample", size, "--holdout-output", apart)
        assert done.exit_code == 0 and f"{size} prompts of 50 rows" in done.output and "10 held out in" in done.output
        held_out.append(apart.read_bytes())
        problems, others = ([row["input"] for row in rows_of(path)] for path in (output, apart))
        assert (len(problems), len(others)) == (size, 10) and not set(problems) & set(others)
        assert problems == sorted(problems, key=lambda p: int(p[1:]))
    assert held_out[0] == held_out[1]
    first = (tmp_path / "5.jsonl").read_bytes()
    data(tmp_path / "5.jsonl", *choices[:-1], 4, "--sample", 5, "--holdout-output", tmp_path / "h")
    assert (tmp_path / "5.jsonl").read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sample", 51), "of 50 rows; ask for fewer"),
        (("--sample", 45, "--holdout", 10, "--holdout-output", "h.jsonl"), "of 50 rows; ask for fewer"),
        (("--sample", 0), "for at least one"),
        (("--holdout", 5), "give both"),
        (("--system", "Be brief."), "template 'qwen_math' is a whole text"),
    ],
)
def test_choices_that_cannot_be_met_are_refused(tmp_path, source, arguments, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = data("out.jsonl", "--source", source, *arguments)
    assert (done.exit_code, message in " ".join(done.output.split())) == (2, True), done.output
    assert not Path("out.jsonl").exists()


def test_unreadable_rows_stop_the_command_unless_they_are_skipped_and_counted(tmp_path, source):
    with source.open("a") as file:
        file.write('{"problem": "no answer", "answer": null}\n')
    refused = data(tmp_path / "out.jsonl", "--source", source)
    assert refused.exit_code == 2 and "(rows 51)" in refused.output and "--skip-unreadable" in refused.output
    done = data(tmp_path / "out.jsonl", "--source", source, "--skip-unreadable")
    assert "50 prompts of 51 rows; 1 skipped without a problem or an answer" in done.output


def test_csv_is_read_and_a_template_may_be_a_file(tmp_path):
    (tmp_path / "own.csv").write_text("problem,answer\n1+1,025\n")
    (tmp_path / "mine.txt").write_text("Q: {q}\nA:")
    arguments = ("--source", tmp_path / "own.csv", "--template-file", tmp_path / "mine.txt")
    assert data(tmp_path / "out.jsonl", *arguments).exit_code == 0
    assert rows_of(tmp_path / "out.jsonl") == [{"input": "Q: 1+1\nA:", "label": "025", "datasource": "columns"}]
    (tmp_path / "mine.txt").write_text("Q: {problem}")
    assert "holds no {q}" in data(tmp_path / "out.jsonl", *arguments).output


def test_a_system_prompt_goes_through_the_chat_template(tmp_path, source):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    tokenizer.save_pretrained(tmp_path / "model")
    arguments = ("--template", "chat", "--system", "Be brief.", "--tokenizer", tmp_path / "model")
    assert data(tmp_path / "out.jsonl", "--source", source, *arguments).exit_code == 0
    assert rows_of(tmp_path / "out.jsonl")[0]["input"] == "[system]Be brief.[user]p0[assistant]"
