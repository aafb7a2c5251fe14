"""The comparison of simple expressions in this process, held to the symbolic engine."""

import random

import pytest

from openrlhf_ktae.reward.evaluate import compare_simple
from openrlhf_ktae.reward.symbolic import equal_expressions


def expression(rng: random.Random, depth: int) -> str:
    if depth == 0:
        return rng.choice([str(rng.randint(1, 99)), rng.choice("abnxyz"), r"\pi"])
    left, right = expression(rng, depth - 1), expression(rng, depth - 1)
    forms = [
        "({})+({})",
        "({})-({})",
        r"({})\cdot ({})",
        r"\frac{{{}}}{{{}}}",
        r"\sqrt{{({})^2}}+{}",
        "({})^{{2}}-({})",
    ]
    return rng.choice(forms).format(left, right)


def test_verdicts_are_those_of_the_symbolic_engine() -> None:
    rng = random.Random(3)
    pairs = []
    for _ in range(40):
        one, two, three = (expression(rng, rng.randint(0, 2)) for _ in range(3))
        pairs += [
            (f"({one})+({two})", f"({two})+({one})"),
            (rf"({one})\cdot (({two})-({three}))", rf"({one})\cdot ({two})-({one})\cdot ({three})"),
            (f"({one})+({two})", f"({one})+({three})"),
            (f"({one})^2", rf"({one})\cdot ({two})"),
        ]
    verdicts = [(compare_simple(*pair), pair) for pair in pairs]
    decided = [(verdict, pair) for verdict, pair in verdicts if verdict is not None]
    assert len(decided) > 100
    assert {verdict for verdict, _ in decided} == {True, False}
    assert [pair for verdict, pair in decided if verdict is not equal_expressions(*pair)] == []


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("0.5x", "x/2"),  # decimals may be rounded
        ("k(k+1)", "k^2+k"),  # a function or a product
        ("1/2x", "x/2"),  # read both ways by people
        (r"2\frac{1}{2}", "5/2"),  # a mixed number or a product
        ("10^{20}+1", "10^{20}"),  # floats cannot tell
        ("x-x", "0"),
        ("1/(x-x)", "1"),
        (r"\sqrt{-4}", r"2\sqrt{-1}"),
        ("2^{3^{4}}", "2^{3^{4}}"),
        ("(" * 50 + "x" + ")" * 50, "x"),
        (r"\sin x", "x"),
        ("x+" * 200 + "x", "201x"),
        ("2i", "2x"),
        ("", "1"),
        ("x+", "x"),
    ],
)
def test_what_floats_cannot_settle_is_left_to_the_engine(answer: str, gold: str) -> None:
    assert compare_simple(answer, gold) is None
