"""What references are, and which of them the grader cannot read."""

import json

import pytest
from typer.testing import CliRunner
from yardstick import read_pairs

from openrlhf_ktae.cli import app
from openrlhf_ktae.reward.grading import Grader
from openrlhf_ktae.reward.survey import describe, survey


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("42", "number"), (r"5\text{ cm}", "number with a unit"), (r"30\%", "number with a unit"), ("2:3", "ratio"),
        (r"\text{Evelyn}", "words"), ("(1,2)", "point or interval"), (r"\{1,2\}", "set"), ("[1,2)", "interval"),
        (r"x \ge 2", "inequality or condition"), ("AB=4", "equation or named value"), (r"x^2+\sqrt{3}", "expression"),
        ("x=1, y=2", "system or list of points"), ("1, 2 or 3", "list"), (r"(0,1)\cup(2,3)", "union or alternatives"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "matrix"), (r"3\mathbf{i}+\mathbf{j}", "vector"),
        (r"\begin{cases} x & x>0 \\ 0 & x \le 0 \end{cases}", "cases"), (r"\text{(C) }27", "choice with its value"),
    ],
)  # fmt: skip
def test_references_are_sorted_by_what_they_are(reference: str, kind: str) -> None:
    assert describe(reference)[:2] == (kind, None)


UNREADABLE = {
    "more than 8 words": ["The midpoints of all sides form a regular hexagon inside the circle as was to be shown"],
    "a placeholder, no answer": ["proof", r"\text{See solution}"],
    "not readable as mathematics": [r"\frac{1}{", "x^{", r"2 + \sqrt"],
    "refused: a tower of powers": ["9^{9^{9^{9}}}"],
    "longer than 2000 characters": ["1+" * 1000 + "1"],
    "empty": ["$$"],
}


def test_what_cannot_be_read_is_found_with_its_reason() -> None:
    grader = Grader()
    found = survey([*(text for texts in UNREADABLE.values() for text in texts), "5", r"\sin x + 1"], grader)
    grader.close()
    assert found.unreadable == UNREADABLE
    assert (found.total, found.unread) == (11, 9)


def test_nearly_every_reference_of_the_yardstick_can_be_read() -> None:
    grader = Grader()
    found = survey(sorted({pair.gold for pair in read_pairs()}), grader)
    grader.close()
    assert found.unread <= 4, found.unreadable


def test_the_data_command_says_what_cannot_be_read_and_still_writes(tmp_path) -> None:
    answers = ["5", ["1", "2"], "proof", r"\frac{1}{"]
    rows = [{"problem": f"problem {n}", "answer": answer} for n, answer in enumerate(answers)]
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "prompts.jsonl"
    arguments = ["data", str(output), "--source", str(source)]
    plain = CliRunner().invoke(app, arguments)
    assert "labels:" not in plain.output
    result = CliRunner().invoke(app, [*arguments, "--check-labels"], env={"COLUMNS": "400"})
    assert result.exit_code == 0
    assert "labels: 3 of 5 references can be read (60.0 %)" in result.output
    assert "cannot be read: 1 (a placeholder, no answer)" in result.output
    assert r"  \frac{1}{" in result.output
    assert len(output.read_text().splitlines()) == 4
