"""The vLLM rollout actor: OpenRLHF's, with one vLLM request per prompt and one copy of the tokenizer."""

import asyncio
import multiprocessing
import os
from contextlib import nullcontext
from copy import copy
from typing import Any

import openrlhf.trainer.ray.vllm_engine as vllm_engine
from openrlhf.utils.agent import SingleTurnAgentExecutor
from vllm.sampling_params import RequestOutputKind, SamplingType

from openrlhf_ktae.advantage.segments import Trace
from openrlhf_ktae.config import EngineOptions
from openrlhf_ktae.engine_size import responses_of_engine
from openrlhf_ktae.forks import PYTHON_VARIABLE
from openrlhf_ktae.training import cpu
from openrlhf_ktae.training.generation_order import OneByOne, Round
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.overrides import plain_class
from openrlhf_ktae.training.responses import as_arrays
from openrlhf_ktae.training.reward_calls import CheckedReward, failure_of
from openrlhf_ktae.training.sampling import sampler_of
from openrlhf_ktae.training.sampling.group import Group
from openrlhf_ktae.training.step_metrics import GENERATED_TOKENS

_RolloutActor = plain_class(vllm_engine.RolloutRayActor)
_SECONDS_TO_REPORT = 5.0
"""Failed requests have told the trainer by then why they did."""


class _GroupRequest:
    """The engine as the executors of one group see it: one request for all samples, each call takes one of them.

    OpenRLHF sends every sample of a prompt as a request of its own and receives every token of it as a message
    (trainer/ray/vllm_engine.py:163-170, 196-208). One request with ``n`` samples and one final message gives the same
    distribution and keeps the actor's event loop free. vLLM makes ``n`` requests of it: the prompt is computed once
    with its prefix cache (``vllm.enable_prefix_caching``) and ``n`` times without.
    """

    def __init__(self, engine, num_samples: int) -> None:
        self._engine = engine
        self._num_samples = num_samples
        self._taken = 0
        self._output: Any = None

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        """The next sample's output, in the form of a request of its own."""
        index = self._taken
        self._taken += 1
        if self._output is None:
            group_params = sampling_params.clone()
            group_params.n = self._num_samples
            group_params.output_kind = RequestOutputKind.FINAL_ONLY
            response = self._engine.generate(prompt_token_ids, group_params, multi_modal_data=multi_modal_data)
            self._output = asyncio.ensure_future(response)
        output = copy(await self._output)
        output.outputs = [output.outputs[index]]
        return output


def _counted(responses: list[dict[str, Any]], generated_tokens: int) -> list[dict[str, Any]]:
    """With each response's share of the tokens that were generated for all of them."""
    for response in responses:
        share = {GENERATED_TOKENS: generated_tokens / len(responses)}
        response["extra_logs"] = (response.get("extra_logs") or {}) | share
    return responses


def _with_trace(response: dict[str, Any]) -> dict[str, Any]:
    """An agent's response that holds ``turn_rewards``, one a turn, as turns."""
    if "turn_rewards" not in response:
        return response
    bounds = tuple((start, end) for start, end in response["action_ranges"])
    return response | {"trace": Trace(bounds, tuple(map(float, response["turn_rewards"])))}


def engine_arguments(options: TrainingOptions, given: dict[str, Any]) -> dict[str, Any]:
    """Engine arguments beside OpenRLHF's own (``given``): how much an engine does at once."""
    engine = EngineOptions(**options.sections["engine"])
    chosen: dict[str, Any] = {"max_num_seqs": engine.max_num_seqs} if engine.max_num_seqs else {}
    if options.run.device == "cpu":
        return cpu.ENGINE | chosen
    names = ("model", "gpu_memory_utilization", "max_model_len", "tensor_parallel_size")
    if not chosen:
        model, share, length, gpus = (given[name] for name in names)
        of_model = responses_of_engine(model, share, length, gpus, options.run.trust_remote_code)
        chosen = {"max_num_seqs": of_model}
    # Statistics that nobody reads, once per token.
    return {"disable_log_stats": True, "max_num_batched_tokens": engine.max_num_batched_tokens, **chosen}


class RolloutActor(_RolloutActor):
    """OpenRLHF's rollout actor with one request per group; on CPU it brings its own vLLM worker extension."""

    async def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        if options.run.device == "cpu":
            # trainer/ray/vllm_engine.py:267 hard-codes the extension that allocates on "cuda".
            kwargs["worker_extension_cls"] = "openrlhf_ktae.training.cpu_vllm_worker.CpuWorker"
            if python := os.environ.get(PYTHON_VARIABLE):
                multiprocessing.set_executable(python)  # vLLM spawns its engine's process
        kwargs |= engine_arguments(options, kwargs)
        await super().__init__(*args, **kwargs)  # pyright: ignore[reportGeneralTypeIssues]
        self._watch = asyncio.ensure_future(self._end_with_engine())
        self._reward: CheckedReward | None = None
        if getattr(self.executor, "reward_func", None):
            self._reward = CheckedReward(self.executor.reward_func, options.run.reward_seconds)
            self.executor.reward_func = self._reward
        self._one_by_one = OneByOne(self.llm) if options.run.deterministic_sampling else None
        # An agent of the user's samples by itself.
        self._sampler = sampler_of(options) if type(self.executor) is SingleTurnAgentExecutor else None
        self._evaluates = False

    async def _end_with_engine(self) -> None:
        """Ends this process some seconds after vLLM's engine has died.

        Requests fail then; but what else it was asked and had not answered (to take weights, to pause) waits for ever
        (vllm/v1/engine/core_client.py:1137), and with it the run.
        """
        while not self.llm.errored:
            await asyncio.sleep(1)
        await asyncio.sleep(_SECONDS_TO_REPORT)
        os._exit(1)

    async def outlast(self) -> None:
        """Never answers: who waits for it learns from Ray when this process has died."""
        await asyncio.Event().wait()

    async def take_tokenizer(self, tokenizer) -> None:
        """Keeps the tokenizer for every later call of `generate_responses`."""
        self._tokenizer = tokenizer

    async def begin_evaluation(self, evaluates: bool) -> None:
        """Says what the prompts that come are for: a tree of rollouts is for training."""
        self._evaluates = evaluates

    async def receive_weights(self, layout, dtype) -> None:
        """All weights in one broadcast (CPU)."""
        await self.llm.collective_rpc("receive_weights", args=(layout, dtype))

    async def begin_round(self, seed: int, expected: int) -> None:
        """Announces so many requests, which are sampled in one order and with seeds made from ``seed``."""
        assert self._one_by_one is not None  # only called with run.deterministic_sampling
        self._one_by_one.round = Round(self.llm, seed, expected)

    async def generate_responses(self, *, num_samples: int = 1, **kwargs):
        """``num_samples`` responses to one prompt, as OpenRLHF's own method returns them.

        Each says under ``failed`` why the prompt cannot be trained on, or None.
        """
        kwargs["hf_tokenizer"] = self._tokenizer
        this_round = self._one_by_one.round if self._one_by_one is not None else None
        async with this_round.turn(kwargs["prompt"]) if this_round is not None else nullcontext() as seed:
            if seed is not None:
                kwargs["sampling_params"] = kwargs["sampling_params"].clone()
                kwargs["sampling_params"].seed = seed
            responses = as_arrays(await self._respond(num_samples, kwargs))
        if not responses:
            return []  # a tree without an edge that teaches
        failed = self._too_long(responses[0], kwargs) or next(filter(None, map(self._failure, responses)), None)
        return [_with_trace(response) | {"failed": failed} for response in responses]

    async def _respond(self, num_samples: int, kwargs: dict[str, Any]) -> list[dict[str, Any]]:
        if self._sampler is not None and (self._sampler.in_evaluation or not self._evaluates):
            group = Group(self, self.executor.execute, self._tokenizer, num_samples, kwargs)
            if group.fits:
                return _counted(await self._sampler.respond(group), group.generated_tokens)
        # A multi-turn executor sends different texts after the first turn, so its requests stay its own; and vLLM takes
        # no greedy request for several samples.
        is_greedy = kwargs["sampling_params"].sampling_type == SamplingType.GREEDY
        if type(self.executor) is not SingleTurnAgentExecutor or num_samples == 1 or is_greedy:
            return await super().generate_responses(num_samples=num_samples, **kwargs)
        request = _GroupRequest(self, num_samples)
        execute = self.executor.execute
        return await asyncio.gather(*(execute(**kwargs, llm_engine=request) for _ in range(num_samples)))

    def _failure(self, response: dict[str, Any]) -> str | None:
        has_source = bool(getattr(self.executor, "reward_endpoints", True))
        return failure_of(response, has_source, self._reward.last_failure if self._reward else "")

    def _too_long(self, response: dict[str, Any], kwargs: dict[str, Any]) -> str | None:
        """Why a prompt that OpenRLHF cut at its start (utils/agent.py:243) is not the prompt of the data any more."""
        room = kwargs["max_length"] - (kwargs["sampling_params"].max_tokens or 1)
        if kwargs.get("images") or not response["action_ranges"] or response["action_ranges"][0][0] < room:
            return None
        length = len(self._tokenizer(text=kwargs["prompt"], add_special_tokens=False)["input_ids"])
        return f"a prompt of {length} tokens; data.max_len leaves room for {room}" if length > room else None
