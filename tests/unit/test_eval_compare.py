"""Comparisons: published averages, paired tests, what is said when results do not fit together."""

import pytest
from eval_files import make_result
from rich.console import Console

from eval.compare import AVERAGE, compare
from eval.published import published_names, published_results
from eval.show import comparison_markdown, print_comparison
from eval.tables import tables

# Average accuracy as the paper prints it, in percent.
PRINTED = {
    "GRPO_1.5B": 40.6, "GRPO_7B": 50.3, "GRPO+KTAE_1.5B": 41.7, "GRPO+KTAE_7B": 51.7,
    "DAPO_1.5B": 41.2, "DAPO_7B": 51.7, "DAPO+KTAE_1.5B": 43.4, "DAPO+KTAE_7B": 52.5,
}  # fmt: skip


def test_published_averages_are_the_printed_ones():
    comparison = compare(list(PRINTED))
    for entry in comparison.entries:
        assert 100 * entry.results["average"]["pass@1"] == pytest.approx(PRINTED[entry.label], abs=0.1)
    row = next(row for row in tables(comparison)[0].rows if row[0] == "DAPO+KTAE_1.5B")
    assert row[-1].startswith("43.4 [")


def test_every_published_model_has_whole_numbers_of_correct_problems():
    assert len(published_names()) == 13
    for name in published_names():
        results = published_results(name)
        assert len(results["tasks"]) == 5
        for row in results["tasks"].values():
            assert row["ci95"][0] <= row["pass@1"] <= row["ci95"][1]
    assert published_results("Open-Reasoner-Zero-7B")["settings"]["template"] == "orz"


def test_published_interval_is_that_of_its_verdicts(tmp_path):
    # AIME: 5 of 30 right, in whatever order.
    folder = make_result(tmp_path / "a", [i % 6 == 0 for i in range(30)])
    interval = compare([folder]).entries[0].results["tasks"]["t"]["ci95"]
    assert published_results("GRPO_1.5B")["tasks"]["aime"]["ci95"] == pytest.approx(interval, abs=0.034)


def test_single_samples_are_tested_with_mcnemar(tmp_path):
    first = make_result(tmp_path / "before", [False] * 8 + [True] * 51)
    second = make_result(tmp_path / "after", [True] * 8 + [False] + [True] * 50)
    comparison = compare([first, second])
    difference = comparison.differences[1, "t"]
    assert (difference.test, difference.pairs) == ("McNemar exact", 59)
    assert difference.p_value == pytest.approx(20 / 512)
    assert comparison.differences[1, AVERAGE] == difference  # of one task: the same test of the same data
    cells = next(table for table in tables(comparison) if table.name == "differences").rows[0]
    assert cells[0] == "after" and cells[1].startswith("+11.9 [") and cells[1].endswith("p = 0.039*")


def test_published_results_have_no_paired_test(tmp_path):
    comparison = compare(["GRPO_7B", make_result(tmp_path / "mine", [True, False])])
    assert not comparison.differences
    assert any("no paired test" in note for note in comparison.notes)
    assert any("GRPO_7B lacks t" in note for note in comparison.notes)


def test_other_problems_are_not_paired(tmp_path):
    first = make_result(tmp_path / "a", [True] * 4)
    second = make_result(tmp_path / "b", [True] * 4)
    outputs = tmp_path / "b" / "b" / "outputs.jsonl"
    outputs.write_text(outputs.read_text().replace('"answers": ["1"]', '"answers": ["one"]'))
    comparison = compare([first, second])
    assert not comparison.differences
    assert any("the data differ" in note for note in comparison.notes)


def test_results_of_different_size_are_paired_on_what_both_have(tmp_path):
    comparison = compare([make_result(tmp_path / "a", [True] * 9), make_result(tmp_path / "b", [True] * 4)])
    assert comparison.differences[1, "t"].pairs == 4
    assert any("paired on the 4 problems of both" in note for note in comparison.notes)


def test_equal_names_are_told_apart(tmp_path):
    paths = [make_result(tmp_path / side / "same", [True, side == "x"]) for side in ("x", "y")]
    assert [entry.label for entry in compare(paths).entries] == ["x/same/same", "y/same/same"]
    assert [entry.label for entry in compare(paths[:1] * 2).entries] == ["same (1)", "same (2)"]


def test_terminal_and_markdown_show_the_same_numbers():
    comparison = compare(["GRPO_1.5B", "DAPO+KTAE_1.5B"])
    console = Console(record=True, width=100)
    print_comparison(comparison, console)
    terminal, markdown = console.export_text(), comparison_markdown(comparison)
    for text in ("43.4 [", "AIME 2024", "582", "Average"):
        assert text in terminal and text in markdown
    lines = [line for line in markdown.splitlines() if line.startswith("| GRPO_1.5B")]
    assert len(lines) == 3 and all(line.count("|") == 8 for line in lines)


def test_no_word_breaks_at_80_columns():
    console = Console(record=True, width=80)
    print_comparison(compare(["GRPO_1.5B", "GRPO+KTAE_1.5B", "DAPO_1.5B", "DAPO+KTAE_1.5B"]), console)
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    for whole in ("OlympiadBench", "GRPO+KTAE_", "[14.2, 44.4]", "(n\u00a0=\u00a0675)", "Average"):
        assert whole in text


def test_names_that_are_no_result_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nobody: neither a result folder nor in the published table \(.*GRPO_1.5B"):
        compare(["nobody"])
    with pytest.raises(ValueError, match=r"no results\.json in this folder"):
        compare([str(tmp_path)])
    with pytest.raises(ValueError, match="no results; name"):
        compare([])
