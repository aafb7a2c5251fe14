"""The yardstick: references as large training sets write them, by kind, with the verdicts of a person."""

from collections import Counter
from pathlib import Path

import pytest
from yardstick import read_pairs

from openrlhf_ktae.reward import is_equivalent
from openrlhf_ktae.reward.equivalence import compare_cheaply

PAIRS = read_pairs()
KINDS = list(dict.fromkeys(pair.kind for pair in PAIRS))


def test_the_yardstick_is_large_and_balanced_in_every_kind() -> None:
    assert len(PAIRS) == len(set(PAIRS)) >= 600
    counts = Counter((pair.kind, pair.equal) for pair in PAIRS)
    assert all(counts[kind, False] >= 17 and counts[kind, True] >= 17 for kind in KINDS)
    assert abs(sum(pair.equal for pair in PAIRS) / len(PAIRS) - 0.5) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_of_the_yardstick(kind: str) -> None:
    wrong = [pair for pair in PAIRS if pair.kind == kind and is_equivalent(pair.answer, pair.gold) != pair.equal]
    assert not wrong


def test_a_cheap_verdict_is_the_verdict() -> None:
    found = [(compare_cheaply(pair.answer, pair.gold), pair) for pair in PAIRS]
    assert not [pair for verdict, pair in found if verdict is not None and verdict != pair.equal]
    assert sum(verdict is not None for verdict, _ in found) > 0.8 * len(PAIRS)


def test_every_text_of_the_yardstick_equals_itself() -> None:
    texts = {text for pair in PAIRS for text in (pair.answer, pair.gold)}
    assert not [text for text in texts if not is_equivalent(f" {text} ", rf"\displaystyle {text}")]


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("## kind\n+ 1 === 1\n5 == 5\n")
    with pytest.raises(ValueError, match="line 3: got '5 == 5'"):
        read_pairs(path)
