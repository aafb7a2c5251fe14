"""Prompt sets of every format are read before anything starts."""

import csv
import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openrlhf_ktae.runs.prompt_files import check_prompt_files, count_prompts
from openrlhf_ktae.table_files import local_files, read_rows

ARGS = SimpleNamespace(data=SimpleNamespace(input_key="input", label_key="label"))
GOOD = [{"input": "1+1=", "label": "2"}, {"input": "1+2=", "label": "025"}]


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def decode(label):
    if not label:
        raise ValueError("no answer")
    return label


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_is_read_as_it_is_written_and_checked(tmp_path, suffix):
    path = write(tmp_path / f"set{suffix}", GOOD)
    assert read_rows(path) == GOOD
    assert check_prompt_files("data.prompt_dataset", str(path), ARGS, decode) == GOOD[0]
    write(path, [{"question": "1+1=", "label": "2"}])
    with pytest.raises(ValueError, match=r"data\.input_key: 'input' is no column .*columns: label, question"):
        check_prompt_files("data.prompt_dataset", str(path), ARGS, decode)
    write(path, [*GOOD, {"input": "1+3=", "label": ""}])
    with pytest.raises(ValueError, match=r"data\.prompt_dataset: .*row 3: no answer"):
        check_prompt_files("data.prompt_dataset", str(path), ARGS, decode)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_a_row_without_a_column_is_named(tmp_path, suffix):
    path = write(tmp_path / f"set{suffix}", [*GOOD, {"input": "1+3=", "label": None}])
    with pytest.raises(ValueError, match=r"1 of 3 rows without 'label' \(rows 3\)"):
        check_prompt_files("eval.dataset", str(path), ARGS, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"input": "1"}\n{"input": ', "line 2: not JSON .*column"),
        ("a.json", '[{"input": "1"},\n{"input": ]', "line 2: not JSON .*column 11"),
        ("a.json", '{"input": "1"}', "holds an object, expected a list"),
        ("a.jsonl", '{"input": "1"}\n[1]', "row 2: a list, expected an object"),
        ("a.parquet", "text", "not Parquet"),
        ("a.txt", "text", r"got suffix '\.txt', expected one of \.jsonl"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path, suffix):
    with pytest.raises(ValueError, match=rf"gone{suffix} cannot be read: No such file or directory"):
        read_rows(tmp_path / f"gone{suffix}")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_of_another_encoding_is_named(tmp_path, suffix):
    (tmp_path / f"latin{suffix}").write_bytes('{"input": "café"}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"latin{suffix} is not UTF-8"):
        read_rows(tmp_path / f"latin{suffix}")


def test_prompts_are_counted_where_every_set_is_a_local_file_of_lines(tmp_path):
    path = write(tmp_path / "set.jsonl", GOOD)
    with path.open("a") as file:
        file.write("\n")  # a line of nothing is no prompt
    assert count_prompts(f"{path}, {path}@train") == 4
    other = write(tmp_path / "set.json", GOOD)
    assert [count_prompts(f"{path},{set_}") for set_ in (other, "owner/name", tmp_path)] == [None] * 3


def test_nothing_is_no_prompt_set():
    assert list(local_files("")) == list(local_files("owner/name, ")) == []


def test_a_cell_of_a_csv_file_may_hold_any_line_end(tmp_path):
    rows = [{"input": f"a{end}b", "label": "1"} for end in ("\n", "\r\n", "\x0c", "\x85", "\u2028", "\u2029", "\x1e")]
    path = tmp_path / "set.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["input", "label"])
        writer.writeheader()
        writer.writerows(rows)
    assert read_rows(path) == rows
    path.write_text("input,label\n1 \u2028 2,3\n", encoding="utf-8")  # in no quotes
    assert read_rows(path) == [{"input": "1 \u2028 2", "label": "3"}]


def test_a_cell_that_python_does_not_read_is_named_with_its_line(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("input,label\n1,2\n" + "x" * (csv.field_size_limit() + 1) + ",3\n")
    with pytest.raises(ValueError, match=r"set\.csv, line 3: not CSV \(field larger than field limit"):
        read_rows(path)
