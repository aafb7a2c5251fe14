"""A tiny language model for machines without a GPU, and its supervised warm-up on a task's worked examples."""

import fcntl
import json
import random
import string
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as functional
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from openrlhf_ktae.tasks.prompt_set import write_prompts
from openrlhf_ktae.tasks.task import BaseTask, Lessons, MadeOptions

OnStep = Callable[[int, float], None]
"""Told the number and the loss of every finished supervised step."""

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
_LEARNING_RATE = 3e-3
_LEARNING_RATE_WARMUP_STEPS = 50
_BATCHES_SORTED = 8
"""Batches that are drawn at once and sorted by length."""


def make_tokenizer(words: tuple[str, ...] | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word of ``words`` (each with the space before it), or per printable character."""
    parts = words or (*string.printable[:95], "\n")
    vocabulary = {token: index for index, token in enumerate([PAD, BOS, EOS, UNKNOWN, *parts])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^ ]+" if words else r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN
    )


def make_model(seed: int, max_length: int = 512, vocabulary: int = 128) -> Qwen3ForCausalLM:
    """An untrained model of 0.8 M parameters in float32 (with a vocabulary of 128).

    Qwen3 and not Qwen2: Transformers puts Qwen2's own pre-tokenizer in for a folder of model type qwen2, whatever
    tokenizer was saved there. Head size 64: vLLM's CPU attention takes 32, 64, 80, 96, 112, 128 and more.
    """
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        # 1 / sqrt(hidden size): with the default 0.02 the model needs twice the warm-up steps.
        initializer_range=0.08,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = Qwen3ForCausalLM(config)
    model.set_attn_implementation("eager")  # half the time of SDPA's backward pass at these sizes on CPU
    return model


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes a Hugging Face folder in bfloat16, the precision OpenRLHF trains and vLLM samples in."""
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _encode(tokenizer, examples: list[tuple[str, str]]) -> list[tuple[list[int], int]]:
    """Token ids of each worked example with its end-of-sequence, and how many of them are the prompt's."""

    def ids(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    prompts, solutions = ids([prompt for prompt, _ in examples]), ids([solution for _, solution in examples])
    return [
        ([*prompt, *solution, tokenizer.eos_token_id], len(prompt))
        for prompt, solution in zip(prompts, solutions, strict=True)
    ]


def _batches(tokenizer, lessons: Lessons, size: int) -> Iterator[list[tuple[list[int], int]]]:
    """Endless batches of ``size`` examples of about the same length, so that little of a batch is padding."""
    rng = random.Random(0)
    while True:
        rows = _encode(tokenizer, list(islice(lessons.examples, _BATCHES_SORTED * size)))
        rows.sort(key=lambda row: len(row[0]))
        starts = list(range(0, len(rows), size))
        rng.shuffle(starts)
        yield from (rows[start : start + size] for start in starts)


def _loss(model, rows: list[tuple[list[int], int]], pad: int) -> torch.Tensor:
    """Mean cross-entropy over the tokens of the solutions; only their logits are computed."""
    token_ids = torch.full((len(rows), max(len(ids) for ids, _ in rows)), pad)
    is_solution = torch.zeros_like(token_ids, dtype=torch.bool)
    for index, (ids, prompt) in enumerate(rows):
        token_ids[index, : len(ids)] = torch.tensor(ids)
        is_solution[index, prompt : len(ids)] = True
    hidden = model.model(input_ids=token_ids[:, :-1]).last_hidden_state[is_solution[:, 1:]]
    return functional.cross_entropy(model.lm_head(hidden), token_ids[is_solution])


def learning_rate(step: int, options: MadeOptions) -> float:
    """Rises, stays, and falls in a line to nothing over the last steps."""
    left = (options.warmup_steps + 1 - step) / max(1.0, options.warmup_decay * options.warmup_steps)
    return _LEARNING_RATE * min(1.0, step / _LEARNING_RATE_WARMUP_STEPS, left)


def _multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16: a step then takes 0.4 times as long."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def warm_up(model, tokenizer, lessons: Lessons, options: MadeOptions, on_step: OnStep) -> None:
    """Supervised warm-up on worked examples, in float32 but for products where bfloat16 is fast."""
    precision = torch.autocast("cpu", dtype=torch.bfloat16, enabled=_multiplies_bfloat16())
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    batches = _batches(tokenizer, lessons, options.warmup_batch_size)
    model.train()
    for step in range(1, options.warmup_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        with precision:
            loss = _loss(model, next(batches), tokenizer.pad_token_id)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step, loss.item())


def prepare_task(task: BaseTask, on_step: OnStep = lambda *_: None) -> bool:
    """Makes a task's prompt sets and its warmed-up model, where it has any, under ``options.directory``.

    Returns False when they were there already, made with the same options. Of several processes that want the same, one
    makes it and the others wait.
    """
    folder = Path(task.options.directory)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _prepare(task, folder, on_step)


def _prepare(task: BaseTask, folder: Path, on_step: OnStep) -> bool:
    options = task.options
    if options.are_made():
        return False
    for name, rows in task.prompt_sets().items():
        write_prompts(rows, folder / name)
    lessons = task.lessons()
    if lessons is not None:
        tokenizer = make_tokenizer(lessons.words)
        model = make_model(options.seed, vocabulary=-(-len(tokenizer) // 128) * 128)
        warm_up(model, tokenizer, lessons, options, on_step)
        save(model, tokenizer, folder / "model")
    options.note_made()
    return True


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, checked to split text as it was made to (one character or word a token)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known = [token for token in tokenizer.get_vocab() if token not in tokenizer.all_special_tokens]
    if any(len(tokenizer.encode(token, add_special_tokens=False)) != 1 for token in known):
        config = json.loads((Path(folder) / "config.json").read_text())
        raise ValueError(f"{folder}: the tokenizer was changed on loading (model_type {config.get('model_type')})")
    return tokenizer
