"""Every way in which a reward function can fail, and what a rollout gets."""

import time

import pytest
import torch

from openrlhf_ktae.training.reward_calls import CheckedReward, failure_of

GOOD = {"rewards": torch.tensor([0.5]), "scores": torch.tensor([1.0]), "extra_logs": {}}


def call(function, seconds=5.0):
    checked = CheckedReward(function, seconds)
    return checked(["q"], ["p"], ["l"]), checked.last_failure


def returns(value):
    return lambda queries, prompts, labels: value


def test_what_the_function_returns_is_passed_on():
    assert call(returns(GOOD)) == (GOOD, "")


def test_an_answer_that_breaks_the_grader_is_wrong_and_not_a_failed_prompt():
    """A policy decides what it answers: a prompt must not go because of it."""
    result = GOOD | {"extra_logs": {"grader_error": torch.ones(1)}}
    assert call(returns(result)) == (result, "")


def test_a_function_that_raises_once_is_asked_again():
    calls = []

    def flaky(queries, prompts, labels):
        calls.append(queries)
        if len(calls) == 1:
            raise OSError("connection reset")
        return GOOD

    assert call(flaky)[0] is GOOD and len(calls) == 2


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"rewards": torch.tensor([float("nan")])}, "returned rewards of nan"),
        ({"rewards": torch.tensor([0.5, 0.5])}, "returned 2 rewards for 1 rollout"),
        ({"rewards": torch.tensor([0.5]), "scores": torch.tensor([float("inf")])}, "returned scores of inf"),
        ({"rewards": []}, "returned 0 rewards for 1 rollout"),
        ({"scores": 1}, "expected a dict with `rewards`"),
        (None, "returned None"),
    ],
)
def test_what_is_no_reward_is_none(result, reason):
    found, failure = call(returns(result))
    assert found["rewards"] is None and reason in failure


def test_a_function_that_always_raises_gives_no_reward():
    def broken(queries, prompts, labels):
        raise KeyError("label")

    found, failure = call(broken)
    assert found["rewards"] is None and failure == "reward function: KeyError('label')"


def test_a_function_that_hangs_is_left_behind():
    start = time.monotonic()
    found, failure = call(lambda *_: time.sleep(30), seconds=0.2)
    assert found["rewards"] is None and time.monotonic() - start < 5
    assert failure == "the reward function took longer than 0.2 s (run.reward_seconds)"


def test_a_response_says_why_it_cannot_be_trained_on():
    response = {"action_ranges": [(3, 5)], "reward": 0.0}
    assert failure_of(response, True, "") is None
    assert failure_of(response | {"reward": None}, True, "broke") == "broke"
    assert "train.log" in (failure_of(response | {"reward": None}, True, "") or "")
    assert failure_of(response | {"reward": None}, False, "") is None  # a reward model gives it later
    assert "empty response" in (failure_of(response | {"action_ranges": [(3, 3)]}, True, "") or "")
