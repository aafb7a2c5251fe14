"""Several reward functions as one."""

import pytest
import torch

from openrlhf_ktae.reward.weighted import weighted


def right(queries, prompts, labels, **kwargs):
    scores = torch.tensor([float(label in query) for query, label in zip(queries, labels, strict=True)])
    return {"rewards": 2 * scores, "scores": scores, "extra_logs": {"found": scores}}


def short(queries, prompts, labels, **kwargs):
    return {"rewards": [-len(query) / 10 for query in queries], "scores": torch.full((len(queries),), 9.0)}


def test_rewards_are_the_weighted_sum_and_scores_those_of_the_first():
    result = weighted(right=(right, 1.0), short=(short, 0.5))(["is 7", "is 8 or 9"], ["", ""], ["7", "7"])
    assert result["rewards"].tolist() == pytest.approx([2 - 0.5 * 0.4, -0.5 * 0.9])
    assert result["scores"].tolist() == [1.0, 0.0]
    logs = {name: value.tolist() for name, value in result["extra_logs"].items()}
    assert logs["found"] == [1.0, 0.0] and logs["reward_right"] == [2.0, 0.0]
    assert logs["reward_short"] == pytest.approx([-0.4, -0.9])


def test_no_function_and_rewards_of_another_length_are_refused():
    with pytest.raises(ValueError, match="no function; name at least one"):
        weighted()

    def odd(queries, prompts, labels, **kwargs):
        return {"rewards": torch.zeros(3)}

    with pytest.raises(ValueError, match=r"odd: rewards of shape \(3,\), expected \(1,\)"):
        weighted(right=(right, 1.0), odd=(odd, 1.0))(["7"], [""], ["7"])
