"""What our rollout actor and the trainers' use of it change: requests, tokenizer, numbers, evaluation rounds."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import openrlhf_parts
import pytest
import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor
from vllm import SamplingParams

from openrlhf_ktae.training import rollout_actor, samples_generator, trainer
from openrlhf_ktae.training.rollout_log import RolloutLog, token_text

SAMPLES = 3


class Tokenizer:
    def __call__(self, text, **_):
        return {"input_ids": torch.tensor([[len(text), 7]])}

    def decode(self, tokens, **_):
        return "".join(map(str, tokens))


class Engine:
    """vLLM's asynchronous engine, which answers every request with its number of samples."""

    def __init__(self):
        self.requests = []

    async def generate(self, prompt, params, request_id):
        self.requests.append((prompt["prompt_token_ids"], params))
        outputs = [SimpleNamespace(token_ids=[20 + i], finish_reason="stop", logprobs=None) for i in range(params.n)]
        yield SimpleNamespace(outputs=outputs)


@pytest.fixture
def actor():
    executor = SingleTurnAgentExecutor()
    executor.reward_endpoints = ["reward.py"]
    executor.reward_func = lambda queries, prompts, labels: {
        "rewards": torch.tensor([0.5]),
        "scores": torch.tensor([1.0]),
        "extra_logs": {"formatted": torch.tensor([1.0])},
    }
    actor = object.__new__(rollout_actor.RolloutActor)
    actor.executor, actor.llm, actor._mm_pad_token_ids = executor, Engine(), None
    asyncio.run(actor.take_tokenizer(Tokenizer()))
    return actor


def generate(actor, samples: int, temperature: float = 1.0):
    sampling = SamplingParams(max_tokens=4, temperature=temperature)
    return asyncio.run(
        actor.generate_responses(
            prompt="abc", label="6", sampling_params=sampling, max_length=64, hf_tokenizer=None, num_samples=samples
        )
    )


def test_a_group_is_one_request_and_each_response_one_of_its_samples(actor):
    responses = generate(actor, SAMPLES)
    ((tokens, params),) = actor.llm.requests
    assert tokens == [3, 7] and params.n == SAMPLES
    assert [response["observation_tokens"] for response in responses] == [[3, 7, 20 + i] for i in range(SAMPLES)]


def test_greedy_samples_are_requests_of_their_own_as_vllm_wants_them(actor):
    responses = generate(actor, SAMPLES, temperature=0.0)
    assert [params.n for _, params in actor.llm.requests] == [1] * SAMPLES and len(responses) == SAMPLES


def test_an_agent_need_not_return_scores_or_logs():
    assert rollout_actor._as_numbers([{"reward": torch.tensor([2.0])}]) == [{"reward": 2.0, "extra_logs": {}}]


@pytest.mark.parametrize("samples", [1, SAMPLES])
def test_rewards_and_logs_leave_the_actor_as_numbers(actor, samples):
    for response in generate(actor, samples):
        found = response["reward"], response["scores"], response["extra_logs"]["formatted"]
        assert found == (0.5, 1.0, 1.0) and {type(value) for value in found} == {float}


def generator(monkeypatch, engines=(), eval_dataloader=(), batch_size=2):
    """Our sample generator, with Ray's calls made at once."""
    monkeypatch.setattr(samples_generator.ray, "get", lambda references: references)
    args = SimpleNamespace(rollout=SimpleNamespace(batch_size=batch_size), vllm=SimpleNamespace(enable_sleep=False))
    return samples_generator.Generator(
        SimpleNamespace(args=args), [], eval_dataloader, Tokenizer(), list(engines),
        options=openrlhf_parts.training_options(),
    )  # fmt: skip


def test_the_tokenizer_goes_to_every_engine_once_and_no_longer_with_the_prompts(monkeypatch):
    taken = []
    engines = [SimpleNamespace(take_tokenizer=SimpleNamespace(remote=taken.append)) for _ in range(2)]
    assert generator(monkeypatch, engines).tokenizer is None
    assert len(taken) == 2 and isinstance(taken[0], Tokenizer) and taken[0] is taken[1]


def test_an_untrained_model_is_never_saved_as_the_best():
    saved, logged = [], []

    class Upstream:
        def save_best_checkpoint(self, eval_metrics, global_step, client_states=None):
            saved.append(global_step)

    class Training(trainer._Training, Upstream):
        def __init__(self):
            self.experience_maker = SimpleNamespace(terms={})
            self._rollout_log = RolloutLog(Path(), str)

        def _log(self, kind, step, values):
            logged.append((kind, step))

    training = Training()
    for step in (0, 10):
        training.save_best_checkpoint({}, step)
    assert saved == [10] and logged == [("eval", 0), ("eval", 10)]


def test_token_text_finds_the_tokenizer_in_a_processor():
    class Inner:
        def decode(self, tokens, **_):
            return "\ufffd"

        def convert_ids_to_tokens(self, token_id):
            return f"<byte {token_id}>"

    class Processor:
        tokenizer = Inner()
        decode = tokenizer.decode

    assert token_text(Processor())(5) == "<byte 5>"


def test_an_evaluation_asks_for_all_problems_at_once_and_counts_scores(monkeypatch):
    asked = []

    def generate(self, dataloader_iter, num_prompts, dynamic_filtering, **_):
        asked.append(num_prompts)
        return [SimpleNamespace(sequences=[0], scores=torch.tensor([1.0]), rewards=torch.tensor([1.5]))], 9, True

    class Problems(list):
        dataset = range(9)

    monkeypatch.setattr(samples_generator.SamplesGenerator, "_generate_vllm", generate)
    ours = generator(monkeypatch, eval_dataloader=Problems([(["math", "math"], [], [], [])]))
    assert ours.problems_per_source == {"math": 2}
    assert ours.generate_eval_samples()[0].rewards.item() == 1.0
    ours._generate_vllm(iter(()), 2, False)  # rollouts for training
    assert asked == [9, 2]
