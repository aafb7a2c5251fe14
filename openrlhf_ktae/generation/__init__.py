"""Where responses come from: vLLM in this process, vLLM engines as Ray actors, or an OpenAI-compatible server."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

Key = tuple[str, int, int]
"""Task, problem, sample."""


@dataclass(frozen=True)
class Request:
    """One sample to generate."""

    key: Key
    prompt: str
    token_ids: tuple[int, ...] | None
    """The prompt's tokens; None where no tokenizer is known and the server tokenizes the text."""
    max_tokens: int
    seed: int
    stop: tuple[str, ...]
    """Strings that end the response and stay in it."""


def sample_seed(seed: int, *place: object) -> int:
    """A seed of its own for every sample, so that a resumed command draws what an uninterrupted one would."""
    return zlib.crc32("/".join(map(str, (seed, *place))).encode())


@dataclass(frozen=True)
class Completion:
    """A finished sample."""

    key: Key
    text: str
    tokens: int
    """Generated tokens, the end-of-sequence token included."""
    finish_reason: str
    """``stop`` or ``length``."""
    token_ids: tuple[int, ...] = ()
    """The generated tokens; empty where the backend gives text alone."""


@dataclass(frozen=True)
class Sampling:
    """What all samples share."""

    temperature: float
    top_p: float


@dataclass(frozen=True)
class EngineOptions:
    """How a vLLM engine is made."""

    model: str
    tokenizer: str
    revision: str | None
    max_model_len: int
    dtype: str
    seed: int
    tensor_parallel: int
    gpu_memory_utilization: float
    max_num_seqs: int | None
    """Most responses that are generated at once; None: what the cache holds on GPU, vLLM's choice on CPU."""
    kv_cache_mib: int | None
    """Size of the key-value cache; None: vLLM's choice on GPU, 256 MiB on CPU."""
    trust_remote_code: bool = False
    """Whether code that the model brings may run."""


class BackendError(RuntimeError):
    """The engine or server ended while there was work left; what came before is kept."""


class Backend(Protocol):
    """A source of responses."""

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Finished samples as they come, each request once, in any order.

        Raises:
            BackendError: the engine or server ended.
        """
        ...

    def close(self) -> None:
        """Frees what the backend holds."""
        ...
