"""What a recipe trains from, for the doctor: are model and prompt sets here, and how many steps are in them?"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from openrlhf_ktae.hub import is_hub_id
from openrlhf_ktae.recipe import RunConfig
from openrlhf_ktae.runs.finding import Finding
from openrlhf_ktae.runs.preflight import PreflightError, check_model, loaded_models, uses_our_verifier
from openrlhf_ktae.runs.prompt_files import check_prompt_files, count_prompts
from openrlhf_ktae.table_files import local_files
from openrlhf_ktae.tasks.task import MadeOptions

_MADE_LATER = "made before training starts"


def made_later(config: RunConfig) -> frozenset[Path]:
    """What the task of a run makes before training starts, and has not made yet: prompt sets and tiny model."""
    task = config.make_task()
    if not isinstance(task.options, MadeOptions) or task.options.are_made():
        return frozenset()
    names = [*task.prompt_sets(), *(["model"] if task.lessons() else [])]
    return frozenset(Path(task.options.directory, name).resolve() for name in names)


def missing_models(args: SimpleNamespace, later: frozenset[Path]) -> Iterator[Finding]:
    """Models that cannot be read here, and why. One of the Hub may still be downloaded, a folder not."""
    for option, name in loaded_models(args).items():
        if Path(name).resolve() in later:
            yield Finding("model", f"{name}: {_MADE_LATER}", "note")
            continue
        try:
            check_model(option, name)
        except PreflightError as error:
            yield Finding("model", str(error), "note" if is_hub_id(name) else "wrong")


def prompt_sets(config: RunConfig, args: SimpleNamespace, later: frozenset[Path]) -> list[Finding]:
    """Whether the prompt sets for training and evaluation can be read, as a run checks them; and the steps in them."""
    wrong = list(_unreadable(config, args, later))
    return wrong or _steps(args, later)


def _unreadable(config: RunConfig, args: SimpleNamespace, later: frozenset[Path]) -> Iterator[Finding]:
    decode_label = config.make_task().decode_label if uses_our_verifier(args) else None
    for option, datasets in (("data.prompt_dataset", args.data.prompt_dataset), ("eval.dataset", args.eval.dataset)):
        here = [name for name in (datasets or "").split(",") if Path(name.strip()).resolve() not in later]
        if not here or (option == "eval.dataset" and not datasets):
            continue
        try:
            check_prompt_files(option, ",".join(here), args, decode_label)
        except ValueError as error:
            yield Finding(option, str(error), "wrong")


def _steps(args: SimpleNamespace, later: frozenset[Path]) -> list[Finding]:
    if any(path.resolve() in later for path in local_files(args.data.prompt_dataset)):
        return [Finding("prompts", f"{args.data.prompt_dataset}: {_MADE_LATER}", "note")]
    prompts = count_prompts(args.data.prompt_dataset)
    if prompts is None:
        return [Finding("prompts", f"{args.data.prompt_dataset}: counted when it is loaded", "note")]
    rows = min(prompts, args.data.max_samples)
    full, rest = divmod(rows, args.rollout.batch_size)
    steps = full + bool(rest)
    lost = rest * args.rollout.n_samples_per_prompt % args.train.batch_size
    filtered = " at most (filtering consumes prompts)" if args.algo.dynamic_filtering_enable else ""
    total = f"{steps} an epoch{filtered}, {steps * args.train.num_episodes} in {args.train.num_episodes}"
    findings = [Finding("steps", f"{rows} prompts: {total}", "ok")]
    if rest and not args.algo.dynamic_filtering_enable:
        text = f"{rest} prompts; {lost} of its {rest * args.rollout.n_samples_per_prompt} rollouts fill no update"
        findings.append(Finding("last step of an epoch", text, "note" if lost else "ok"))
    return findings
