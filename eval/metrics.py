"""Metrics over the samples of one problem, averaged over problems: avg@k, pass@k, maj@k."""

from collections.abc import Callable, Sequence
from math import comb


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased estimate of the probability that at least one of ``k`` samples is correct.

    Chen et al. 2021 (arXiv 2107.03374), equation 1: ``1 - C(samples - correct, k) / C(samples, k)``.

    Raises:
        ValueError: ``k`` outside 1..samples, or ``correct`` outside 0..samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@k: k is {k}, expected 1 to the {samples} samples there are")
    if not 0 <= correct <= samples:
        raise ValueError(f"pass@k: {correct} correct, expected 0 to the {samples} samples there are")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def reported_ks(samples: int) -> list[int]:
    """The values of k for which pass@k is reported: powers of two up to ``samples``, and ``samples`` itself."""
    powers = [2**i for i in range(samples.bit_length()) if 2**i <= samples]
    return sorted({*powers, samples})


def majority_score(
    answers: Sequence[str | None], correct: Sequence[bool], equivalent: Callable[[str, str], bool]
) -> float:
    """maj@k of one problem: whether the answer given most often is correct.

    Args:
        answers: the answer found in each sample; None where there is none (such a sample does not vote).
        correct: the verdict on each sample.
        equivalent: whether two answers say the same; ``1/2`` and ``0.5`` are one vote each for one answer.

    Returns:
        1.0 or 0.0; on a tie, the share of the leading answers that are correct (the expected score of a fair draw);
        0.0 when no sample has an answer.
    """
    # Each group: its first answer, that sample's verdict, its votes.
    groups: list[tuple[str, bool, int]] = []
    for answer, is_correct in zip(answers, correct, strict=True):
        if answer is None:
            continue
        for i, (leader, leader_correct, votes) in enumerate(groups):
            if answer == leader or equivalent(answer, leader):
                groups[i] = (leader, leader_correct, votes + 1)
                break
        else:
            groups.append((answer, is_correct, 1))
    if not groups:
        return 0.0
    most = max(votes for _, _, votes in groups)
    leading = [leader_correct for _, leader_correct, votes in groups if votes == most]
    return sum(leading) / len(leading)
