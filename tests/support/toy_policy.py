"""A toy policy behind OpenRLHF's real executor, and a text whose chances are known from any prefix."""

import asyncio
import math
import random
from types import SimpleNamespace

import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor
from vllm import SamplingParams

from openrlhf_ktae.tasks.tiny_model import make_tokenizer
from openrlhf_ktae.training import rollout_actor
from openrlhf_ktae.training.sampling import sampler_of

TOKENIZER = make_tokenizer()
EOS = TOKENIZER.eos_token_id
PROMPT = "7+1="


class ToyPolicy:
    """vLLM's engine as the rollout actor sees it: ``next_token`` of the text so far gives {text: probability}."""

    def __init__(self, next_token, seed: int = 0) -> None:
        self._next_token, self._rng = next_token, random.Random(seed)
        self.requests = []

    async def generate(self, prompt, params, request_id):
        before = TOKENIZER.decode(prompt["prompt_token_ids"])
        self.requests.append((before, params))
        yield SimpleNamespace(outputs=[self._sample(before, params) for _ in range(params.n)])

    def _sample(self, before: str, params):
        output = SimpleNamespace(token_ids=[], logprobs=[], text="", finish_reason="length", stop_reason=None)
        while len(output.token_ids) < params.max_tokens:
            choices = self._next_token(before + output.text)
            text = self._rng.choices(list(choices), list(choices.values()))[0]
            token = TOKENIZER.convert_tokens_to_ids(text)
            output.token_ids.append(token)
            output.logprobs.append({token: SimpleNamespace(logprob=math.log(choices[text]))})
            if token == EOS:
                output.finish_reason = "stop"
                break
            output.text += text
            if params.stop and output.text.endswith(tuple(params.stop)):
                assert params.include_stop_str_in_output
                output.finish_reason, output.stop_reason = "stop", output.text[-1]
                break
        return output


def actor(next_token, rewards, options):
    """A rollout actor whose engine is a toy; ``rewards`` says what a whole text is worth."""
    executor = SingleTurnAgentExecutor()
    executor.reward_endpoints = ["reward.py"]
    executor.reward_func = lambda queries, prompts, labels: {
        "rewards": torch.tensor([rewards(queries[0].replace("<eos>", ""))]), "scores": torch.tensor([1.0])
    }  # fmt: skip
    made = object.__new__(rollout_actor.RolloutActor)
    made.executor, made.llm, made._mm_pad_token_ids = executor, ToyPolicy(next_token), None
    made._one_by_one = made._reward = None
    made._sampler, made._evaluates = sampler_of(options), False
    asyncio.run(made.take_tokenizer(TOKENIZER))
    return made


def respond(made, samples: int, prompt: str = PROMPT, logprobs=None, max_tokens: int = 32):
    sampling = SamplingParams(max_tokens=max_tokens, temperature=1.0, logprobs=logprobs)
    return asyncio.run(
        made.generate_responses(
            prompt=prompt, label="8", sampling_params=sampling, max_length=64, hf_tokenizer=None, num_samples=samples
        )
    )


def text_of(response, start=0, end=None) -> str:
    return TOKENIZER.decode(response["observation_tokens"][start:end], skip_special_tokens=True)


LONG, GOOD, ENOUGH = 6, 0.6, 4


def gambler(text: str) -> dict[str, float]:
    """Six letters, each right (a) with a probability of 0.6; the text is worth 1 if four of them are."""
    return {"a": GOOD, "b": 1 - GOOD} if len(text) < len(PROMPT) + LONG else {"<eos>": 1.0}


def success(prefix: str) -> float:
    """The probability that a text that begins like this is worth 1."""
    missing, left = ENOUGH - prefix.count("a"), LONG - len(prefix)
    counts = range(max(missing, 0), left + 1)
    return math.fsum(math.comb(left, k) * GOOD**k * (1 - GOOD) ** (left - k) for k in counts)
