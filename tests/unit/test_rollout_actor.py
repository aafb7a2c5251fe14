"""What our rollout actor and the trainers' use of it change: requests, tokenizer, numbers, evaluation rounds."""

import asyncio
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import openrlhf_parts
import pytest
import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor
from torchdata.stateful_dataloader import StatefulDataLoader
from vllm import SamplingParams

from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.training import rollout_actor, samples_generator, trainer
from openrlhf_ktae.training.responses import as_arrays
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
    actor._one_by_one = actor._reward = actor._sampler = None
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
    tokens = [response["observation_tokens"].tolist() for response in responses]
    assert tokens == [[3, 7, 20 + i] for i in range(SAMPLES)]


def test_greedy_samples_are_requests_of_their_own_as_vllm_wants_them(actor):
    responses = generate(actor, SAMPLES, temperature=0.0)
    assert [params.n for _, params in actor.llm.requests] == [1] * SAMPLES and len(responses) == SAMPLES


def test_an_agent_need_not_return_scores_or_logs():
    response = {"reward": torch.tensor([2.0]), "observation_tokens": [3], "rollout_log_probs": None}
    (sent,) = as_arrays([response])
    assert sent["reward"] == 2.0 and sent["extra_logs"] == {} and "scores" not in sent


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

    class Training(trainer.Training, Upstream):
        def __init__(self):
            self.experience_maker = SimpleNamespace(terms={}, kl_ctl=SimpleNamespace(value=0.1))
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


@pytest.fixture
def rows(monkeypatch):
    """A generator over numbered prompts whose rollouts are their numbers; ``sent`` gets what goes to vLLM."""

    def make(count, run=None, evaluates=False, broken=()):
        sent = []

        def dispatch(self, prompts, labels, *, images=None, **_):
            sent.append(list(prompts))
            return [[{"failed": "broke" if prompt in broken else None, "prompt": prompt}] for prompt in prompts]

        def experience(response, max_len):
            score = torch.tensor([float(response["prompt"] % 2)])
            return SimpleNamespace(sequences=[0], scores=score, rewards=score + 0.5, prompt=response["prompt"])

        class Problems(list):
            dataset = range(count)

        upstream = samples_generator.SamplesGenerator
        monkeypatch.setattr(upstream, "_dispatch_prompts_to_vllm", dispatch)
        monkeypatch.setattr(samples_generator, "experience_of", experience)
        monkeypatch.setattr(samples_generator.ray, "wait", lambda refs, **_: (refs[-1:], refs[:-1]))
        data = [(["math"], [number], [""], [None]) for number in range(count)]
        engines = [SimpleNamespace(take_tokenizer=SimpleNamespace(remote=lambda tokenizer: None))]
        engines[0].begin_round = SimpleNamespace(remote=lambda seed, expected: sent.append((seed, expected)))
        ours = generator(monkeypatch, engines, Problems(data) if evaluates else ())
        ours.options = dataclasses.replace(ours.options, run=run or RunOptions())
        ours.args.train = SimpleNamespace(seed=1)
        ours.args.algo = SimpleNamespace(dynamic_filtering_range=(0.5, 2.0))
        return ours, iter(data), sent

    return make


def test_an_evaluation_asks_for_all_problems_at_once_and_counts_scores(rows):
    ours, _, sent = rows(9, evaluates=True)
    assert ours.problems_per_source == {"math": 9}
    assert sorted(sample.rewards.item() for sample in ours.generate_eval_samples()) == [0.0] * 5 + [1.0] * 4
    assert sent == [list(range(9))]


def test_a_prompt_that_failed_is_replaced_by_the_next_one_and_counted(rows):
    ours, data, sent = rows(9, broken={1})
    accepted, consumed, exhausted = ours._generate_vllm(data, 4, False)
    assert sent == [[0, 1, 2, 3], [4]] and (consumed, exhausted) == (5, False)
    assert sorted(sample.prompt for sample in accepted) == [0, 2, 3, 4]
    assert ours.failed_prompts == 1
    ours._generate_vllm(data, 2, False)
    assert ours.failed_prompts == 0


def test_filtered_prompts_are_replaced_until_the_data_ends(rows):
    ours, data, _ = rows(6)
    accepted, consumed, exhausted = ours._generate_vllm(data, 3, True)
    assert sorted(sample.prompt for sample in accepted) == [1, 3, 5] and (consumed, exhausted) == (6, False)
    assert ours._generate_vllm(data, 3, True) == ([], 0, True)


@pytest.mark.parametrize(("share", "broken"), [(0.1, {0, 1}), (0.0, {0}), (0.5, {0, 1, 2})])
def test_more_failures_than_allowed_end_the_run(rows, share, broken):
    ours, data, _ = rows(9, RunOptions(max_failed_prompts=share), broken=broken)
    with pytest.raises(ValueError, match=rf"run.max_failed_prompts allows \({share:g}\); the last: broke"):
        ours._generate_vllm(data, 4, False)


def test_with_deterministic_sampling_rollouts_keep_the_order_of_the_data_and_have_seeds_of_the_step(rows):
    def rounds(step):
        ours, data, sent = rows(9, RunOptions(deterministic_sampling=True), broken={1})
        ours.step = step
        accepted = ours._generate_vllm(data, 4, False)[0]
        return [sample.prompt for sample in accepted], sent

    order, sent = rounds(5)
    assert order == [0, 2, 3, 4]
    (first, expected), prompts, (second, one), replacement = sent
    assert (expected, prompts, one, replacement) == (4, [0, 1, 2, 3], 1, [4])
    assert first != second and rounds(5)[1] == sent and rounds(6)[1][0][0] != first


def test_the_order_of_the_data_is_the_seeds_and_the_episodes(rows, monkeypatch):
    upstream = samples_generator.SamplesGenerator
    monkeypatch.setattr(upstream, "generate_samples", lambda self, **_: list(self.prompts_dataloader))

    def drawn(seed, episode):
        ours, _, _ = rows(1)
        ours.prompts_dataloader = StatefulDataLoader(range(20), shuffle=True, collate_fn=lambda row: row[0])
        ours.args.train.seed, ours.episode = seed, episode
        return ours.generate_samples()

    orders = [drawn(1, 0), drawn(1, 1), drawn(2, 0)]
    assert drawn(1, 0) == orders[0] and sorted(orders[0]) == list(range(20))
    assert len({tuple(order) for order in orders}) == 3


def test_a_run_that_stopped_at_the_end_of_an_episode_goes_on_with_the_next():
    def states_after(count):
        loader = StatefulDataLoader(range(5), collate_fn=lambda row: row[0])
        taken = iter(loader)
        assert len([row for _, row in zip(range(count), taken, strict=False)]) == min(count, 5)
        return {"episode": 2, "data_loader_state_dict": loader.state_dict()}

    middle = states_after(3)
    assert trainer._after_a_whole_episode(middle) == middle
    assert trainer._after_a_whole_episode(states_after(6)) == {"episode": 3, "data_loader_state_dict": {}}
    assert trainer._after_a_whole_episode({"data_loader_state_dict": {}}) == {"data_loader_state_dict": {}}


def test_a_rollout_actor_that_dies_ends_the_run_when_others_have_had_time_to_say_why(monkeypatch, tmp_path):
    folder, events = RunFolder(tmp_path), []
    engines = [SimpleNamespace(outlast=SimpleNamespace(remote=lambda number=number: number)) for number in (1, 2)]
    monkeypatch.setattr(trainer, "ray", SimpleNamespace(wait=lambda refs, **_: events.append(refs)))
    monkeypatch.setattr(trainer, "time", SimpleNamespace(sleep=events.append))
    monkeypatch.setattr(trainer, "os", SimpleNamespace(_exit=events.append))
    trainer.end_with_engines(engines, folder)
    assert events == [[1, 2], 15.0, 1]
    assert folder.read_failure().reason == "a vLLM engine died"
