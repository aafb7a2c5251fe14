"""The Hugging Face Hub, asked once and answered in a sentence: its own loaders try for half a minute, noisily."""

import json
import re
from pathlib import Path
from typing import Any

_SECONDS = 10.0


def is_hub_id(model: str) -> bool:
    """Whether a name, where nothing here has it, can be a model of the Hub: OWNER/NAME, or NAME alone (gpt2)."""
    return not Path(model).exists() and re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", model) is not None


def model_problem(model: str) -> str | None:
    """Why this is neither a model folder nor a Hub model, as a sentence with the way out; None where it is one."""
    folder = Path(model)
    if folder.is_dir():
        has_configuration = (folder / "config.json").is_file()
        return None if has_configuration else f"{model} holds no config.json; name the folder of a Hugging Face model"
    looked = f"(looked in {Path.cwd()})"
    if not is_hub_id(model):
        return f"{model} is no model folder {looked}, nor a hub id (owner/name)"
    problem = hub_problem(model)
    return problem and f"{model} is no folder {looked}, and {problem}"


def hub_problem(model: str) -> str | None:
    """Why a Hub model cannot be had, as a sentence with the way out; None where it is cached or the hub has it."""
    import httpx
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        if isinstance(try_to_load_from_cache(model, "config.json"), str):
            return None
        HfApi().model_info(model, timeout=_SECONDS)
    except GatedRepoError:
        return "the hub wants its terms accepted first: open its page there, then log in here (hf auth login)"
    except (HFValidationError, RepositoryNotFoundError):
        return "the hub has no such model; check the name, or log in if it is private (hf auth login)"
    except OfflineModeIsEnabled:
        return "not in the hub's cache here, and HF_HUB_OFFLINE is set; name a local folder, or unset it to download"
    except (httpx.HTTPError, OSError) as error:
        return (
            f"not in the hub's cache here, and the hub does not answer ({_reason(error)}); check the network, or name "
            "a local folder"
        )
    return None


def code_problem(model: str, way_out: str, revision: str | None = None) -> str | None:
    """That a model brings Python code (``auto_map``), which would run where it is loaded; None where it brings none.

    Without being told whether it may, Transformers asks on the terminal, and vLLM refuses in words of its own.

    Args:
        model: a model's or tokenizer's folder or Hub id.
        way_out: what the user does after having read the code.
        revision: commit of a Hub model.

    Raises:
        ValueError: one of these files is no JSON object.
    """
    for file in ("config.json", "tokenizer_config.json", "processor_config.json"):
        found = model_file(model, file, revision)
        if found and _read_object(found).get("auto_map"):
            return (
                f"{model} brings code of its own ({file}: auto_map), which would run wherever it is loaded; read it, "
                f"then {way_out}"
            )
    return None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error})") from None
    if not isinstance(read, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return read


def check_model(option: str, model: str, may_run_code: bool) -> None:
    """Refuses what is no model, and a model that brings code, unless the command line allows it.

    Raises:
        ValueError: naming ``option`` and the way out.
    """
    if problem := model_problem(model):
        raise ValueError(f"{option}: {problem}")
    check_code(option, model, may_run_code)


def check_code(option: str, model: str, may_run: bool, revision: str | None = None) -> None:
    """Refuses a model that brings code, unless the command line allows it.

    Raises:
        ValueError: naming ``option`` and the way out.
    """
    if not may_run and (problem := code_problem(model, "pass --trust-remote-code", revision)):
        raise ValueError(f"{option}: {problem}")


def model_file(model: str, name: str, revision: str | None = None) -> Path | None:
    """A file of a model folder, or of a Hub model (fetched where it is not cached); None where there is none."""
    if Path(model).is_dir():
        path = Path(model, name)
        return path if path.is_file() else None
    from transformers.utils.hub import cached_file  # takes seconds to import

    found = cached_file(model, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def dataset_folder(what: str, source: str) -> Path:
    """The files of a Hub data set, ``OWNER/NAME@COMMIT``, fetched where they are not cached.

    Args:
        what: the option that names it, for errors.
        source: what was given and is nothing here.

    Raises:
        ValueError: no full commit, or the hub does not give it.
    """
    from huggingface_hub import snapshot_download

    name, _, revision = source.partition("@")
    nothing_here = f"{what}: no file or folder {source!r} (looked in {Path.cwd()}); pass one, or a data set of the Hub"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"{nothing_here} with its full commit hash: owner/name@<commit>")
    if not revision:
        raise ValueError(f"{nothing_here} with its full commit hash: {name}@<commit>")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(
            f"{what}: revision {revision!r} of {name}, expected a full commit hash (40 hexadecimal digits): a branch "
            f"may change, and the same command shall give the same data; write {name}@<commit>, or pass a local folder"
        )
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision))
    except Exception as error:  # every cause (offline, no such set, no permission) ends the command with its reason
        raise ValueError(
            f"{what}: {source} cannot be fetched from the Hub ({type(error).__name__}: {_reason(error)}); download it "
            "where the Hub can be reached and pass the local folder"
        ) from error


def push(folder: Path, repository: str, private: bool = True) -> str:
    """Uploads a model folder, with the token of HF_TOKEN or `hf auth login`; returns its address.

    Raises:
        ValueError: no model in the folder, or the hub did not take it; the folder stays as it is.
    """
    import httpx
    from huggingface_hub import HfApi

    if not (folder / "config.json").is_file():
        raise ValueError(f"push: {folder} holds no config.json; name a folder that `openrlhf-ktae merge` made")
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Add merged weights")
    except (httpx.HTTPError, OSError, ValueError) as error:
        public = "" if private else " --public"
        raise ValueError(
            f"push: the hub did not take {folder} ({_reason(error)}); it is complete here. Check the network and the "
            f"token (HF_TOKEN or `hf auth login`), then: openrlhf-ktae push {folder} {repository}{public}"
        ) from None
    return str(address)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
