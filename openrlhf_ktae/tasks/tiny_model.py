"""A tiny language model for machines without a GPU, and its supervised warm-up on a task's worked examples."""

import json
import string
from collections.abc import Callable
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
_IGNORED_LABEL = -100
_LEARNING_RATE = 3e-3
_LEARNING_RATE_WARMUP_STEPS = 50


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per printable ASCII character."""
    characters = [*string.printable[:95], "\n"]
    vocabulary = {token: index for index, token in enumerate([PAD, BOS, EOS, UNKNOWN, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN
    )


def make_model(seed: int, max_length: int = 512) -> Qwen3ForCausalLM:
    """An untrained model of 0.8 M parameters in float32.

    Qwen3 and not Qwen2: Transformers puts Qwen2's own pre-tokenizer in for a folder of model type qwen2, whatever
    tokenizer was saved there. Head size 64: vLLM's CPU attention takes 32, 64, 80, 96, 112, 128 and more.
    """
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=128,
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


def _batch(tokenizer, examples: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, L) and labels (B, L) of worked examples; labels cover the solution and the end-of-sequence."""
    prompts = [tokenizer.encode(prompt, add_special_tokens=False) for prompt, _ in examples]
    solutions = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for _, text in examples]
    length = max(len(prompt) + len(solution) for prompt, solution in zip(prompts, solutions, strict=True))
    token_ids = torch.full((len(examples), length), tokenizer.pad_token_id)
    labels = torch.full((len(examples), length), _IGNORED_LABEL)
    for index, (prompt, solution) in enumerate(zip(prompts, solutions, strict=True)):
        end = len(prompt) + len(solution)
        token_ids[index, :end] = torch.tensor(prompt + solution)
        labels[index, len(prompt) : end] = torch.tensor(solution)
    return token_ids, labels


def warm_up(model, tokenizer, lessons: Lessons, options: MadeOptions, on_step: OnStep) -> None:
    """Supervised warm-up on worked examples."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    for step in range(1, options.warmup_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * min(1.0, step / _LEARNING_RATE_WARMUP_STEPS)
        token_ids, labels = _batch(tokenizer, list(islice(lessons.examples, options.warmup_batch_size)))
        logits = model(token_ids).logits[:, :-1]
        loss = functional.cross_entropy(
            logits.reshape(-1, logits.size(-1)), labels[:, 1:].reshape(-1), ignore_index=_IGNORED_LABEL
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step, loss.item())


def prepare_task(task: BaseTask, on_step: OnStep = lambda *_: None) -> bool:
    """Makes a task's prompt sets and its warmed-up model, where it has any, under ``options.directory``.

    Returns False when they were there already, made with the same options.
    """
    options = task.options
    folder = Path(options.directory)
    stamp = folder / "made_with.json"
    made_with = options.model_dump_json(indent=2)
    if stamp.exists() and stamp.read_text() == made_with:
        return False
    for name, rows in task.prompt_sets().items():
        write_prompts(rows, folder / name)
    lessons = task.lessons()
    if lessons is not None:
        tokenizer = make_tokenizer()
        model = make_model(options.seed)
        warm_up(model, tokenizer, lessons, options, on_step)
        save(model, tokenizer, folder / "model")
    stamp.write_text(made_with)
    return True


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, checked to split text as it was made to (one character a token)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if len(tokenizer.encode("12+3=", add_special_tokens=False)) != 5:
        config = json.loads((Path(folder) / "config.json").read_text())
        raise ValueError(f"{folder}: the tokenizer was changed on loading (model_type {config.get('model_type')})")
    return tokenizer
