"""Wrong answers made of right ones: none is accepted. The full 20,000: tests/benchmarks/grade_mutants.py."""

from collections import Counter

from answer_pairs import PAIRS
from mutants import MUTATIONS, mutants
from yardstick import read_pairs

from openrlhf_ktae.reward import Grader

RIGHT = [(pair.answer, pair.gold) for pair in read_pairs() if pair.equal]
RIGHT += [(answer, gold) for answer, gold, equal, trap in PAIRS if equal and trap != "scientific notation"]
COUNT = 600


def test_mutants_are_different_and_of_every_kind() -> None:
    made = list(mutants(RIGHT, COUNT, seed=1))
    assert len({(mutant, gold) for _, mutant, gold, _ in made}) == len(made) == COUNT
    counts = Counter(kind for kind, *_ in made)
    assert all(counts[kind] >= 5 for kind in MUTATIONS), counts
    assert all(mutant != answer for _, mutant, _, answer in made)


def test_hardly_a_mutant_is_accepted() -> None:
    made = list(mutants(RIGHT, COUNT, seed=1))
    grader = Grader()
    verdicts = grader.grade_many([(f"<answer>{mutant}</answer>", gold) for _, mutant, gold, _ in made], "tags")
    grader.close()
    accepted = [row for row, verdict in zip(made, verdicts, strict=True) if verdict.correct]
    # The last of six or more digits of a decimal may differ: that is the tolerance.
    assert not [row for row in accepted if not (row[0] == "digit" and sum(map(str.isdigit, row[1])) >= 6)], accepted
    assert len(accepted) <= 1
