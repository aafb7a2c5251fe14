"""From a DeepSpeed checkpoint of any ZeRO stage and world size to a Hugging Face folder that loads anywhere."""

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from openrlhf_ktae.checkpoints import Checkpoint
from openrlhf_ktae.hub import check_model, is_hub_id, push
from openrlhf_ktae.run_folder import RunFolder

MAX_LOG_PROB_DIFFERENCE = 1e-3
"""The written folder, loaded again, may differ by this much (nats) from the weights it was written from."""

_CHECKED_TOKENS = 64


class MergeError(ValueError):
    """A checkpoint that cannot be merged; the message names what was found and the way out."""


@dataclass(frozen=True)
class Merged:
    """What is merged, and the run it belongs to."""

    checkpoint: Checkpoint
    run: RunFolder | None


def find_checkpoint(path: Path) -> Merged:
    """Finds the checkpoint meant by a run folder, its ``checkpoints`` folder, or one checkpoint (``global_step20``).

    Raises:
        MergeError: there is none; the message says which are there.
    """
    if not path.is_dir():
        raise MergeError(f"checkpoint: {path} is no folder")
    path = path.resolve()
    run = next((RunFolder(parent) for parent in (path, *path.parents) if (parent / "run.json").is_file()), None)
    if any(path.glob("*_model_states.pt")):
        return Merged(Checkpoint(path), run)
    for folder in (path, path / "_actor", path / "checkpoints" / "_actor"):
        if (folder / "latest").is_file():
            tag = (folder / "latest").read_text(encoding="utf-8").strip()
            if not (folder / tag).is_dir():
                there = ", ".join(sorted(child.name for child in folder.iterdir() if child.is_dir())) or "none"
                raise MergeError(f"checkpoint: {folder}/latest names {tag}, which is not there (there: {there})")
            return Merged(Checkpoint(folder / tag), run)
    raise MergeError(
        f"checkpoint: {path} holds no DeepSpeed checkpoint; name a run folder that has checkpoints/_actor "
        "(ckpt.save_steps writes it), or one of its global_step folders"
    )


def merge(
    path: Path,
    output: Path,
    base: str | None = None,
    dtype: torch.dtype = torch.bfloat16,
    trust_remote_code: bool = False,
) -> Merged:
    """Writes a checkpoint's policy as safetensors with configuration, tokenizer, generation options and a model card.

    Args:
        path: a run folder or a checkpoint in it.
        output: a new or empty folder.
        base: the model whose configuration and tokenizer the policy has; None: what run.json says.
        dtype: of the written weights.
        trust_remote_code: whether code that the base model brings may run.

    Raises:
        MergeError: no checkpoint, no base model, or weights that do not belong to the base model.
        ValueError: the base model is not there, or brings code that may not run.
    """
    from transformers import AutoTokenizer

    found = find_checkpoint(path)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise MergeError(f"output: {output} exists and is not empty; name a new folder")
    base = base or _base_model(found)
    check_model("base model", base, trust_remote_code)
    state = _read_weights(found.checkpoint, dtype)
    model = _empty_model(base, dtype, trust_remote_code)
    state = _fitting(state, model, base)
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    model.save_pretrained(output)
    AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code).save_pretrained(output)
    (output / "README.md").write_text(model_card(found, base, dtype), encoding="utf-8")
    return found


def verify(merged: Merged, output: Path, base: str | None = None, trust_remote_code: bool = False) -> float:
    """Loads the written folder and compares log-probabilities with those of the checkpoint's weights.

    Returns:
        the largest absolute difference in nats over a sequence of tokens.

    Raises:
        MergeError: it is above MAX_LOG_PROB_DIFFERENCE, or no number.
    """
    from transformers import AutoModelForCausalLM

    written = AutoModelForCausalLM.from_pretrained(output, trust_remote_code=trust_remote_code)
    base = base or _base_model(merged)
    direct = _empty_model(base, written.dtype, trust_remote_code)
    state = _read_weights(merged.checkpoint, written.dtype)
    direct.load_state_dict(_fitting(state, direct, base), strict=False, assign=True)
    direct.tie_weights()
    token_ids = torch.randint(written.config.vocab_size, (1, _CHECKED_TOKENS), generator=torch.manual_seed(0))
    difference = (log_probs(written, token_ids) - log_probs(direct, token_ids)).abs().max().item()
    if not difference <= MAX_LOG_PROB_DIFFERENCE:
        raise MergeError(
            f"output: log-probabilities of {output} differ by {difference:.3g} nats from the checkpoint's, expected at "
            f"most {MAX_LOG_PROB_DIFFERENCE}; do not use it"
        )
    return difference


@torch.no_grad()
def log_probs(model: Any, token_ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (B, T-1) in nats of each token after the ones before it."""
    logits = model.eval()(token_ids).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(-1, token_ids[:, 1:, None]).squeeze(-1)


def _base_model(merged: Merged) -> str:
    if merged.run is None:
        raise MergeError(
            f"checkpoint: no run.json above {merged.checkpoint.path}, so the model it started from is not known; name "
            "it with --base (a model folder or a hub id)"
        )
    settings = merged.run.read()["config"]["openrlhf"]
    if settings.get("ds.lora.rank", 0):
        raise MergeError(
            f"checkpoint: trained with ds.lora.rank {settings['ds.lora.rank']}; its adapter stands in the run's model/ "
            "folder, merge that with peft (PeftModel.merge_and_unload)"
        )
    return settings["actor.model_name_or_path"]


def _read_weights(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    # Merging needs no GPU, and DeepSpeed would probe for one when it is imported.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    path = checkpoint.path
    if not any(path.glob("*_optim_states.pt")):
        raise MergeError(
            f"checkpoint: {path} holds no optimizer states (*_optim_states.pt), which hold the full-precision "
            "weights; it is incomplete, or was not written by ZeRO 1, 2 or 3"
        )
    state = get_fp32_state_dict_from_zero_checkpoint(str(path.parent), checkpoint.tag)
    return {name: tensor.to(dtype) for name, tensor in state.items()}  # pyright: ignore[reportOptionalMemberAccess]


def _empty_model(base: str, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    with suppress(OSError):  # a base model without one: Transformers' defaults are written
        model.generation_config = GenerationConfig.from_pretrained(base)
    return model


def _fitting(state: dict[str, torch.Tensor], model: Any, base: str) -> dict[str, torch.Tensor]:
    """The weights under the model's names; a tied output layer is not stored twice."""
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    missing = sorted(expected.keys() - state.keys() - tied)
    surplus = sorted(state.keys() - expected.keys())
    if missing or surplus:
        raise MergeError(
            f"checkpoint: its weights are not those of {base}: {len(missing)} missing {missing[:3]}, {len(surplus)} "
            f"unknown {surplus[:3]}; name the right model with --base"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name]:
            raise MergeError(
                f"checkpoint: {name} has shape {tuple(tensor.shape)}, {base} has {tuple(expected[name])}; name the "
                "right model with --base"
            )
    return {name: tensor for name, tensor in state.items() if name not in tied}


def model_card(merged: Merged, base: str, dtype: torch.dtype) -> str:
    """The README.md of a merged model: where it comes from, what it reached, and every option."""
    run = merged.run.read() if merged.run else {}
    front = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [openrlhf, ktae]"]
    front += [f"base_model: {base}"] if is_hub_id(base) else []
    name = run.get("name", merged.checkpoint.tag)
    facts = {
        "Checkpoint": merged.checkpoint.tag,
        "Trained from": base if is_hub_id(base) else Path(base).name,
        "Recipe": Path(run["recipe"]).name if "recipe" in run else None,
        "Data": _public(run.get("config", {}).get("openrlhf", {}).get("data.prompt_dataset")),
        "Weights": str(dtype).removeprefix("torch."),
        "Seed": run.get("seed"),
        "Commit": run.get("git_commit"),
        "Versions": ", ".join(f"{package} {version}" for package, version in run.get("versions", {}).items()),
    }
    lines = [*front, "---", "", f"# {name}", ""]
    lines += [f"- {title}: {value}" for title, value in facts.items() if value not in (None, "")]
    if merged.run:
        lines += _metrics_section(merged.run, merged.checkpoint) + _options_section(run)
    return "\n".join(lines) + "\n"


def _metrics_section(run: RunFolder, checkpoint: Checkpoint) -> list[str]:
    has_step = any(map(str.isdigit, checkpoint.tag))  # DeepSpeed takes any tag
    upto = [line for line in run.metrics() if not has_step or line["step"] <= checkpoint.step]
    lines = []
    for kind, title in (("eval", "Evaluation"), ("train", "Training")):
        last = next((line for line in reversed(upto) if line["kind"] == kind), None)
        if last:
            numbers = {k: v for k, v in last.items() if isinstance(v, int | float) and ("/" in k or k == "kl")}
            shown = {k: v for k, v in numbers.items() if not k.startswith("timing/")}
            lines += ["", f"## {title}, step {last['step']}", "", "| metric | value |", "|---|---:|"]
            lines += [f"| {name} | {value:.4g} |" for name, value in shown.items()]
    return lines


def _options_section(run: dict[str, Any]) -> list[str]:
    sections = {section: _public(options) for section, options in run["config"].items() if section != "run"}
    return ["", "## Options", "", "```json", json.dumps(sections, indent=2), "```"]


def _public(value: Any) -> Any:
    """An option as a card shows it, which is public: of local paths, also of several, only the last part."""
    if isinstance(value, dict):
        return {name: _public(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_public(inner) for inner in value]
    if not isinstance(value, str):
        return value
    # A single part such as `/no_think` in a template names no folder.
    return re.sub(r"(?:^|(?<=,))(\s*)/[^,]*/(?=[^,/])", r"\1", value)


def push_command(folder: Path, repository: str, public: bool) -> int:
    """``openrlhf-ktae push``; returns the exit code. Errors are printed as one sentence."""
    return _guarded(lambda console: _push(console, folder, repository, public))


def _push(console: Console, folder: Path, repository: str, public: bool) -> None:
    console.print(f"Uploaded to {push(folder, repository, private=not public)}")


def _guarded(work: Callable[[Console], None]) -> int:
    try:
        work(Console(highlight=False, soft_wrap=True))
    except ValueError as error:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"error {error}")
        return 2
    return 0


_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def merge_command(
    path: Path,
    output: Path,
    base: str | None,
    dtype: str,
    check: bool,
    repository: str | None,
    public: bool,
    trust_remote_code: bool,
) -> int:
    """``openrlhf-ktae merge``; returns the exit code. Input errors are printed as one sentence."""

    def work(console: Console) -> None:
        if dtype not in _DTYPES:
            raise MergeError(f"--dtype: got {dtype}, expected {', '.join(_DTYPES)}")
        merged = merge(path, output, base, _DTYPES[dtype], trust_remote_code)
        checkpoint = merged.checkpoint
        console.print(f"{checkpoint.tag} of {checkpoint.path.parent} merged into {output} ({dtype})")
        if check:
            difference = verify(merged, output, base, trust_remote_code)
            console.print(f"Loaded again: log-probabilities differ by {difference:.2g} nats at most")
        if repository:
            _push(console, output, repository, public)

    return _guarded(work)
