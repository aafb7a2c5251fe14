"""The reward function as OpenRLHF calls it."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from openrlhf_ktae.reward import math_reward
from openrlhf_ktae.reward.math_reward import OPTIONS_VARIABLE, decode_label
from openrlhf_ktae.reward.rollouts import check_labels, response_of

PROMPT = "<|im_start|>user\nSix times seven?<|im_end|>\n<|im_start|>assistant\n"
Reward = Callable[..., dict[str, Any]]


@pytest.fixture
def reward_func(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Reward]]:
    """Loads the file as OpenRLHF does, with options from the environment."""
    loaded = []

    def load(**options: Any) -> Reward:
        monkeypatch.setenv(OPTIONS_VARIABLE, json.dumps(options))
        spec = importlib.util.spec_from_file_location("reward_func", math_reward.__file__)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(module)
        return module.reward_func

    yield load
    for module in loaded:
        if module._grader.cache_info().currsize:
            module.grader().close()


def test_rewards_scores_and_flags_of_a_batch(reward_func: Callable[..., Reward]) -> None:
    responses = [r"\boxed{42}<|im_end|>", r"\boxed{41}", "42", ""]
    result = reward_func(format_bonus=0.25, wrong=-0.5)([PROMPT + text for text in responses], [PROMPT] * 4, ["42"] * 4)
    assert result["rewards"].tolist() == [1.25, -0.25, -0.5, -0.5]
    assert result["scores"].tolist() == [1, 0, 0, 0]
    assert result["extra_logs"]["formatted"].tolist() == [1, 1, 0, 0]
    assert result["extra_logs"]["timed_out"].tolist() == result["extra_logs"]["grader_error"].tolist() == [0] * 4
    assert all(value.dtype == torch.float32 for value in (result["rewards"], *result["extra_logs"].values()))


def test_an_empty_response_is_wrong_and_starts_no_worker(reward_func: Callable[..., Reward]) -> None:
    result = reward_func()([PROMPT], [PROMPT], ["x+1"])
    assert (result["rewards"].tolist(), result["scores"].tolist()) == ([0], [0])


def test_any_of_several_answers_counts(reward_func: Callable[..., Reward]) -> None:
    label = json.dumps([r"\frac{1}{2}", "50"])
    rewards = reward_func()(
        [PROMPT + rf"\boxed{{{answer}}}" for answer in ("0.5", "50", "5")], [PROMPT] * 3, [label] * 3
    )
    assert rewards["scores"].tolist() == [1, 1, 0]


def test_a_timed_out_answer_is_wrong_and_flagged(reward_func: Callable[..., Reward]) -> None:
    hostile = r"\boxed{\int_0^1 \sin(x^{x^{x}}) e^{\tan x} dx}"
    result = reward_func(deadline_seconds=0.7)([PROMPT + hostile, PROMPT + r"\boxed{0.5}"], [PROMPT] * 2, ["0.5"] * 2)
    assert result["scores"].tolist() == [0, 1]
    assert result["extra_logs"]["timed_out"].tolist() == [1, 0]
    assert result["extra_logs"]["grader_error"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("query", "label"), [(PROMPT + r"\boxed{1}", None), (PROMPT + r"\boxed{1}", ""), ("other text", "1")]
)
def test_what_cannot_be_graded_is_wrong_and_counted(reward_func: Callable[..., Reward], query: str, label: Any) -> None:
    result = reward_func()([query, PROMPT + r"\boxed{1}"], [PROMPT] * 2, [label, "1"])
    assert result["scores"].tolist() == [0, 1]
    assert result["extra_logs"]["grader_error"].tolist() == [1, 0]


def test_an_option_that_does_not_exist_is_an_error(reward_func: Callable[..., Reward]) -> None:
    with pytest.raises(ValueError, match="deadline"):
        reward_func(deadline=1)([PROMPT], [PROMPT], ["1"])


def test_the_prompt_is_not_part_of_the_response() -> None:
    assert response_of("prompt: \\boxed{1} answer", "prompt: \\boxed{1}") == " answer"
    assert response_of("<s>prompt answer", "prompt") == " answer"
    long = "".join(f"word{index} " for index in range(50))
    assert response_of(long[100:] + "answer", long) == "answer"
    assert response_of("something else", "prompt") is None


def test_labels_without_an_answer_are_refused_with_their_rows() -> None:
    with pytest.raises(ValueError, match=r"^3 of 5 labels unusable: row 2: .*; row 4: .*NoneType.*; row 5: .*nan"):
        check_labels(["1", "", '["1", "2"]', None, float("nan")], decode_label)
    check_labels(["1", 2, 3.5, ["1", "2"], r"\frac{1}{2}", '["1", "2"]', "(1,2)"], decode_label)


def test_labels_hold_one_answer_or_a_list_of_them() -> None:
    assert decode_label('["a", "b"]') == ("a", "b")
    assert decode_label("[1, 2]") == ("[1, 2]",)
    assert decode_label(142.0) == ("142",)
    assert decode_label('["a"') == ('["a"',)
