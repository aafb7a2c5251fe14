"""The evaluation folder: nothing lost, nothing twice, nothing mixed."""

import json

import pytest

from eval.records import Record, read_records
from eval.store import OUTPUTS, Store

SETTINGS = {"model": "m", "sampling": {"temperature": 0.0, "n": 1}}


def record(index, sample=0, output="so \\boxed{2}"):
    return Record("aime", index, sample, "1+1?", ("2",), "1+1?", output, "2", True, True, "equal", 5, "stop", 2.0)


def test_records_come_back_as_they_were_written(tmp_path):
    # U+2028 ends a line for str.splitlines; a lone surrogate or NUL must survive too.
    odd = [record(0, output="a\u2028b\x85c\n\x00 é 𝄞 \ud800"), record(1, 3)]
    with Store(tmp_path, SETTINGS) as store:
        store.append(odd)
    with Store(tmp_path, SETTINGS) as store:
        assert store.records == odd
        assert store.done == {("aime", 0, 0), ("aime", 1, 3)}


@pytest.mark.parametrize("cut", [1, 2, 20, 150])
def test_torn_last_line_is_dropped_and_redone(tmp_path, cut):
    with Store(tmp_path, SETTINGS) as store:
        store.append([record(0), record(1, output="é𝄞" * 40)])
    path = tmp_path / OUTPUTS
    path.write_bytes(path.read_bytes()[:-cut])
    with Store(tmp_path, SETTINGS) as store:
        assert store.done == {("aime", 0, 0)}
        store.append([record(1)])
    assert [r.key for r in read_records(path)] == [("aime", 0, 0), ("aime", 1, 0)]


def test_changed_setting_is_refused_and_named(tmp_path):
    with Store(tmp_path, SETTINGS) as store:
        store.append([record(0)])
    changed = {"model": "m", "sampling": {"temperature": 0.7, "n": 1}, "limit": 5}
    refusal = r"sampling.temperature: was 0.0, is 0.7; limit: was None, is 5"
    with pytest.raises(ValueError, match=refusal), Store(tmp_path, changed):
        pass
    assert len(read_records(tmp_path / OUTPUTS)) == 1


def test_settings_bind_from_the_first_sample_on(tmp_path):
    with Store(tmp_path, SETTINGS):
        pass  # the engine did not start
    with Store(tmp_path, {"model": "m", "max_model_len": 64}) as store:
        store.append([record(0)])
    with pytest.raises(ValueError, match="max_model_len: was 64, is None"), Store(tmp_path, SETTINGS):
        pass


def test_two_writers_in_one_folder_are_refused(tmp_path):
    busy = pytest.raises(ValueError, match="another process is writing")
    with Store(tmp_path, SETTINGS), busy, Store(tmp_path, SETTINGS):
        pass
    with Store(tmp_path, SETTINGS):
        pass


def test_broken_line_in_the_middle_is_named(tmp_path):
    with Store(tmp_path, SETTINGS) as store:
        store.append([record(0)])
    with (tmp_path / OUTPUTS).open("a") as file:
        file.write('{"task": "aime"}\n')
    with pytest.raises(ValueError, match="line 2: not a record"), Store(tmp_path, SETTINGS):
        pass


def test_a_sample_that_stands_twice_is_refused(tmp_path):
    with Store(tmp_path, SETTINGS) as store:
        store.append([record(0), record(0)])
    with pytest.raises(ValueError, match="problem 0, sample 0 is there twice"):
        read_records(tmp_path / OUTPUTS)


def test_outputs_without_settings_are_refused(tmp_path):
    (tmp_path / OUTPUTS).write_text(json.dumps({"a": 1}) + "\n")
    with pytest.raises(ValueError, match=r"no settings\.json"), Store(tmp_path, SETTINGS):
        pass


def test_results_without_a_number_are_null_not_nan(tmp_path):
    with Store(tmp_path, SETTINGS) as store, pytest.raises(ValueError, match="JSON"):
        store.write_results({"pass@1": float("nan")})
