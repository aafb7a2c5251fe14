"""The table of pairs, and what must hold for any of them."""

from collections import Counter

import pytest
from answer_pairs import PAIRS
from shared_data import evaluation_suite

from openrlhf_ktae.reward import is_equivalent
from openrlhf_ktae.reward.equivalence import compare_cheaply
from openrlhf_ktae.reward.limits import MAX_LENGTH, Refused, check_limits
from openrlhf_ktae.tasks.math.benchmarks import load_benchmarks


def test_the_table_is_large_and_has_both_verdicts_for_every_trap() -> None:
    assert len(set(PAIRS)) >= 150
    counts = Counter((trap, verdict) for *_, verdict, trap in PAIRS)
    assert all(counts[trap, False] for trap, verdict in counts if verdict and trap != "equal in another form")
    assert counts["free symbols", False] >= 10


@pytest.mark.parametrize(("answer", "gold", "verdict", "trap"), PAIRS)
def test_verdicts_of_the_table(answer: str, gold: str, verdict: bool, trap: str) -> None:
    assert is_equivalent(answer, gold) is verdict, trap


def test_a_cheap_verdict_is_the_full_verdict_and_most_pairs_have_one() -> None:
    cheap = [(compare_cheaply(answer, gold), verdict) for answer, gold, verdict, _ in PAIRS]
    decided = [(found, verdict) for found, verdict in cheap if found is not None]
    assert all(found is verdict for found, verdict in decided)
    assert len(decided) > 0.6 * len(PAIRS)


def test_every_answer_equals_itself() -> None:
    for answer, gold, _, _ in PAIRS:
        assert is_equivalent(gold, gold)
        assert is_equivalent(answer, answer) is bool(answer)


def test_a_long_answer_equals_only_the_same_text() -> None:
    long = "1+" * MAX_LENGTH + "1"
    assert is_equivalent(long, long)
    assert not is_equivalent(long, str(MAX_LENGTH + 1))


TOO_LARGE = ["9^{9^{9^9}}", "9^9^9^9", "2^{100000}", "x^{99999999999}", "a^{b^{c^{d^{x}}}}", "a^b^c^d^x", "123456789!"]
TOO_LARGE += ["5!!", "(5!)!", "{" * 99, "1" * 1500]


@pytest.mark.parametrize("text", TOO_LARGE)
def test_expressions_beyond_the_limits_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        check_limits(text)


@pytest.mark.parametrize("text", ["x^{10}", "2^{1000}", "e^{-2t}", "e^{x^2}", "20!", "a_{1}^{2}", r"\frac{x^{3}}{5}"])
def test_ordinary_expressions_are_within_the_limits(text: str) -> None:
    check_limits(text)


def test_every_benchmark_answer_is_accepted_in_another_spelling_and_not_for_its_neighbour() -> None:
    suite = load_benchmarks(evaluation_suite())
    answers = sorted({answer for problems in suite.values() for problem in problems for answer in problem.answers})
    assert len(answers) > 1000
    spelled = [(rf"\({answer.strip('$')}\) ".replace(r"\frac", r"\dfrac"), answer) for answer in answers]
    assert [pair for pair in spelled if not is_equivalent(*pair)] == []
    numbers = [answer for answer in answers if answer.lstrip("-").isdigit()]
    assert len(numbers) > 300
    assert not any(compare_cheaply(answer, str(int(answer) + 1)) for answer in numbers)
