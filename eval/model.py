"""The model that is evaluated: its tokenizer, a checksum of its weights, and prompts as it gets them."""

import hashlib
from pathlib import Path
from typing import Any

from openrlhf_ktae.hub import model_problem
from openrlhf_ktae.tasks.templates import Template

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_SAMPLED_BYTES = 2**20


def check_folder(model: str, needs_tokenizer: bool) -> None:
    """Refuses a local folder that cannot be a model, and a Hub id that the hub does not give.

    Raises:
        ValueError: naming what is missing.
    """
    if problem := model_problem(model):
        raise ValueError(f"model: {problem}")
    folder = Path(model)
    if needs_tokenizer and folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ValueError(f"model {model}: no tokenizer in this folder ({', '.join(_TOKENIZER_FILES)}); "
                         "save one there, or pass --tokenizer")  # fmt: skip


def check_context(model: str, revision: str | None, max_model_len: int, trust_remote_code: bool = False) -> None:
    """Refuses more tokens of prompt and response than the model has positions; vLLM's own words name no option.

    Raises:
        ValueError: with the model's number.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or max_model_len <= positions or _stretches_positions(config):
        return
    raise ValueError(
        f"max-model-len: got {max_model_len} tokens of prompt and response, {model} has {positions} positions; pass "
        f"--max-model-len {positions} and a smaller --max-tokens"
    )


def _stretches_positions(config: Any) -> bool:
    """Whether rotary positions are scaled, so that a model takes more than its configuration's number of them."""
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return scaling.get("rope_type", "default") != "default" if isinstance(scaling, dict) else False


def load_tokenizer(name: str, revision: str | None, trust_remote_code: bool = False) -> Any:
    """The ``transformers`` tokenizer of a folder or Hub id.

    Raises:
        ValueError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"tokenizer {name}: cannot be loaded ({error})") from error


def fingerprint(model: str, revision: str | None) -> str:
    """What tells two checkpoints under one name apart.

    A local folder: SHA-256 over the names and sizes of its files and the first and last MiB of each, 16 hexadecimal
    digits. Enough to see that weights were trained further, and quick for a model of any size. A Hub id: its commit.
    """
    folder = Path(model)
    if not folder.is_dir():
        from transformers import PretrainedConfig

        return PretrainedConfig.get_config_dict(model, revision=revision)[0].get("_commit_hash") or str(revision)
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".safetensors", ".bin", ".json", ".model", ".txt", ".jinja"} or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLED_BYTES))
            file.seek(max(0, size - _SAMPLED_BYTES))
            digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def template_warning(template: Template, tokenizer: Any) -> str | None:
    """Why the template does not look right for the model, or None.

    A model with a chat template gets a base model's prompt, or a ChatML prompt meets a tokenizer without its marks.
    Only a warning: base models of the Qwen family carry a chat template too.
    """
    mark = "<|im_start|>"
    if mark in template.text and mark not in tokenizer.get_vocab():
        return f"template {template.name!r} writes {mark}, which this tokenizer splits into ordinary text"
    chat = getattr(tokenizer, "chat_template", None)
    if chat is None or template.uses_chat_template or (mark in template.text and mark in str(chat)):
        return None
    return (
        f"the tokenizer has a chat template and template {template.name!r} is one for base models; "
        "use --template chat_boxed if this is a chat model"
    )


def tokenize(prompt: str, template: Template, tokenizer: Any) -> tuple[int, ...]:
    """Token ids of a rendered prompt. A chat template has written its special tokens already."""
    return tuple(tokenizer.encode(prompt, add_special_tokens=not template.uses_chat_template))
