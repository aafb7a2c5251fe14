"""The options of ``python -m eval run``: defaults and what is allowed, said once. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_ktae.reward.answer import STYLES, AnswerStyle


@dataclass(frozen=True)
class RunOptions:
    """Everything the command line says; what each option means: ``python -m eval run --help`` (cli.py)."""

    model: str
    data: str
    output: Path
    tasks: list[str] | None = None
    benchmarks: list[Path] = field(default_factory=list)
    template: str = "qwen_math"
    answer_style: AnswerStyle | None = None
    limit: int | None = None
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 3000
    max_model_len: int = 4096
    seed: int = 0
    tokenizer: str | None = None
    revision: str | None = None
    dtype: str = "bfloat16"
    engines: int | None = None
    address: str | None = None
    base_url: str | None = None
    concurrency: int = 64
    tensor_parallel: int = 1
    gpu_memory_utilization: float = 0.9
    max_num_seqs: int | None = None
    kv_cache_mib: int | None = None
    trust_remote_code: bool = False

    def check(self) -> None:
        """ValueError for values that cannot be."""
        longest = self.max_model_len - 1
        bounds = {
            "n": (self.n >= 1, "at least 1"),
            "temperature": (self.temperature >= 0, "at least 0"),
            "top-p": (0 < self.top_p <= 1, "above 0, at most 1"),
            "max-tokens": (1 <= self.max_tokens <= longest, f"1 to {longest} (--max-model-len)"),
            "engines": (self.engines is None or self.engines >= 1, "at least 1"),
            "answer-style": (self.answer_style in (None, *STYLES), f"one of {', '.join(STYLES)}"),
            "concurrency": (self.concurrency >= 1, "at least 1"),
        }
        for name, (is_fine, expected) in bounds.items():
            if not is_fine:
                raise ValueError(f"{name}: got {getattr(self, name.replace('-', '_'))}, expected {expected}")
        if self.n > 1 and self.temperature == 0:
            raise ValueError(
                f"n: {self.n} samples at temperature 0 are all the same; set --temperature or leave out --n"
            )
        if self.base_url and (self.engines or self.address):
            raise ValueError("base-url: a server has its own engines; leave out --engines and --address")
        if self.address and not self.engines:
            raise ValueError("address: a Ray cluster needs --engines, the number of engines on it")
