"""The rollouts of one prompt in the making: what a way of sampling draws from the engine, and what it hands over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

from vllm.sampling_params import RequestOutputKind

from openrlhf_ktae.advantage.segments import Trace
from openrlhf_ktae.training.options import TrainingOptions


@dataclass(frozen=True)
class Draw:
    """Tokens behind a prompt: generated ones and, between turns, given ones."""

    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    """Of every token as the engine sampled it, 0 for a given one; empty where nobody asked for them."""
    text: str = ""
    """Of the last draw alone."""
    is_open: bool = True
    """Whether text may follow: neither the end of the sequence nor the length limit was reached."""
    is_truncated: bool = False

    def upto(self, length: int) -> Draw:
        """The first ``length`` tokens, to go on from."""
        return Draw(self.token_ids[:length], self.log_probs[:length])

    def given(self, token_ids: Sequence[int]) -> Draw:
        """With tokens that nobody generated behind it."""
        zeros = (0.0,) * (len(token_ids) if self.log_probs else 0)
        return Draw((*self.token_ids, *token_ids), (*self.log_probs, *zeros))


NOTHING = Draw()


@dataclass
class Group:
    """One prompt at one engine."""

    engine: Any
    """Has OpenRLHF's ``generate(prompt_token_ids, sampling_params)``."""
    execute: Callable[..., Awaitable[dict[str, Any]]]
    """OpenRLHF's single-turn executor: takes what an engine generated, and asks the reward source."""
    tokenizer: Any
    size: int
    """Rollouts to return."""
    call: dict[str, Any]
    """Of ``execute``: prompt, label, sampling_params, max_length, hf_tokenizer, images."""
    generated_tokens: int = field(default=0, init=False)
    """Drawn so far."""

    def __post_init__(self) -> None:
        self.prompt_ids = self.tokens(self.call["prompt"])
        asked = self.call["sampling_params"].max_tokens
        self.room = asked or max(0, self.call["max_length"] - len(self.prompt_ids))
        """Tokens that may follow the prompt."""
        self.fits = len(self.prompt_ids) + self.room <= self.call["max_length"]

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, without special ones around it."""
        return list(self.tokenizer(text=text, add_special_tokens=False)["input_ids"])

    async def draw(
        self, after: Draw = NOTHING, count: int = 1, stop: Sequence[str] = (), limit: int | None = None
    ) -> list[Draw]:
        """``count`` continuations of ``after``, each with what it goes on from.

        They end at one of the texts in ``stop``, which stays, after ``limit`` tokens, at the end of the sequence, or at
        the length limit; only the first two are open. One request and one message, whatever the count; a prefix is
        computed once with ``vllm.enable_prefix_caching``.
        """
        room = self.room - len(after.token_ids)
        if room <= 0:
            return [Draw(after.token_ids, after.log_probs, "", is_open=False, is_truncated=True)] * count
        params = self.call["sampling_params"].clone()
        most = min(room, limit or room)
        params.n, params.max_tokens, params.output_kind = count, most, RequestOutputKind.FINAL_ONLY
        params.min_tokens = min(params.min_tokens, most)
        params.logprobs = 0 if params.logprobs is None else params.logprobs
        if stop:
            params.stop, params.include_stop_str_in_output = list(stop), True
        output = await self.engine.generate([*self.prompt_ids, *after.token_ids], params)
        return [self._drawn(after, one, stop) for one in output.outputs]

    def _drawn(self, after: Draw, output: Any, stop: Sequence[str]) -> Draw:
        self.generated_tokens += len(output.token_ids)
        log_probs = [of[token].logprob for token, of in zip(output.token_ids, output.logprobs, strict=True)]
        tokens = (*after.token_ids, *output.token_ids)
        is_full, at_limit = len(tokens) >= self.room, output.finish_reason == "length"
        return Draw(
            tokens,
            (*after.log_probs, *log_probs),
            output.text,
            is_open=(at_limit and not is_full) or (output.finish_reason == "stop" and output.stop_reason in stop),
            is_truncated=at_limit and is_full,
        )

    async def response(self, draw: Draw) -> dict[str, Any]:
        """A response to the prompt as OpenRLHF's executor returns it, with its reward."""
        return await self.execute(**self.call, llm_engine=_Drawn(draw))

    def ungraded(self, draw: Draw) -> dict[str, Any]:
        """The same without asking the reward source."""
        start, asked = len(self.prompt_ids), self.call["sampling_params"].logprobs is not None
        return {
            "prompt": self.call["prompt"],
            "label": self.call["label"],
            "images": self.call.get("images"),
            "mm_train_inputs": None,
            "observation_tokens": [*self.prompt_ids, *draw.token_ids],
            "action_ranges": [(start, start + len(draw.token_ids))],
            "rollout_log_probs": [0.0] * start + list(draw.log_probs) if asked else None,
            "truncated": draw.is_truncated,
            "reward": None,
            "scores": None,
            "extra_logs": {},
        }

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens, special ones included."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False)

    def traced(self, response: dict[str, Any], bounds: Sequence[tuple[int, int]], **about: Any) -> dict[str, Any]:
        """The response with its `Trace`; ``bounds`` count from the first token behind the prompt."""
        start = len(self.prompt_ids)
        trace = Trace(tuple((first + start, end + start) for first, end in bounds), **about)
        return response | {"trace": trace}


class _Drawn:
    """Stands where the executor expects the engine, and has its answer already."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    async def generate(self, *_: Any, **__: Any) -> Any:
        draw = self._draw
        pairs = zip(draw.token_ids, draw.log_probs, strict=True)
        output = SimpleNamespace(
            token_ids=list(draw.token_ids),
            logprobs=[{token: SimpleNamespace(logprob=log_prob)} for token, log_prob in pairs],
            finish_reason="length" if draw.is_truncated else "stop",
        )
        return SimpleNamespace(outputs=[output])


class Sampler(ABC):
    """A way of sampling; made once in every engine's actor."""

    in_evaluation: ClassVar[bool] = False
    """Whether evaluation samples like this too, and not each response by itself."""

    def __init__(self, options: TrainingOptions) -> None:
        self.options = options

    @abstractmethod
    async def respond(self, group: Group) -> list[dict[str, Any]]:
        """``group.size`` responses, each `Group.traced`."""
