"""Checks before any actor starts: what would fail minutes later, or silently, fails here with one clear sentence."""

import contextlib
import importlib.util
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_ktae.advantage.term import NEEDS, TERM
from openrlhf_ktae.hub import code_problem, model_problem
from openrlhf_ktae.losses.loss import LOSS
from openrlhf_ktae.openrlhf_options import check as check_openrlhf
from openrlhf_ktae.openrlhf_options import parse, to_argv
from openrlhf_ktae.plugins import section_of
from openrlhf_ktae.recipe import PACKAGE, RunConfig
from openrlhf_ktae.runs.batch_sizes import BatchPlan, batch_plan
from openrlhf_ktae.runs.prompt_files import check_prompt_files
from openrlhf_ktae.runs.sampling_check import check_end_tag, check_sampling
from openrlhf_ktae.tasks.reward import TASK_VARIABLE, describe, task

REWARD_FILE = PACKAGE / "tasks" / "reward.py"


class PreflightError(ValueError):
    """A run that cannot work; the message names the option, what was found and the way out."""


def preflight(config: RunConfig, run_dir: Path) -> SimpleNamespace:
    """Checks a run. Returns OpenRLHF's options as its code reads them.

    Raises:
        PreflightError: naming the option, what was found and the way out.
        OptionError: OpenRLHF refuses the options.
    """
    settings = config.openrlhf_settings(run_dir)
    args = check_openrlhf(config.openrlhf_argv(run_dir))
    check_combinations(config, args)
    if config.run.device == "cpu":
        check_cpu(args)
    elif args.ds.ring_attn_size > 1 and importlib.util.find_spec("flash_attn") is None:
        raise PreflightError(
            "ds.ring_attn_size: ring attention needs flash-attn, which is not installed; leave it at 1, or install "
            "flash-attn (bash scripts/setup.sh --gpu --flash-attn)"
        )
    for option, name in loaded_models(args).items():
        check_model(option, name)
        # OpenRLHF and vLLM would run it on every node: they set trust_remote_code=True.
        if not config.run.trust_remote_code and (problem := code_problem(name, "set run.trust_remote_code=true")):
            raise PreflightError(f"{option}: {problem}")
    decode_label = config.make_task().decode_label if uses_our_verifier(args) else None
    first_row = check_prompt_files("data.prompt_dataset", args.data.prompt_dataset, args, decode_label)
    try:
        check_end_tag(config, args, first_row)
    except ValueError as error:
        raise PreflightError(str(error)) from None
    if args.eval.dataset:
        check_prompt_files("eval.dataset", args.eval.dataset, args, decode_label)
    check_reward_source(config, args, settings.get("reward.remote_url"), first_row)
    return args


def check_combinations(config: RunConfig, args: SimpleNamespace) -> None:
    """Methods, ways of sampling and what they need go together. Needs no file.

    Raises:
        PreflightError: naming the option, what was found and the way out.
    """
    check_methods(config, args)
    check_determinism(config, args)
    try:
        check_sampling(config, args)
    except ValueError as error:
        raise PreflightError(str(error)) from None


def check_cpu(args: SimpleNamespace) -> None:
    """Refuses options that cannot work without a GPU.

    Raises:
        PreflightError: naming the option, what was found and the way out.
    """
    workers = args.actor.num_nodes * args.actor.num_gpus_per_node
    if args.ds.zero_stage == 3 and workers > 1:
        raise PreflightError(
            f"ds.zero_stage: 3 with {workers} policy workers on CPU turns every loss into NaN without an error; "
            "set ds.zero_stage to 2, or actor.num_gpus_per_node to 1"
        )
    refused = {
        "vllm.enable_sleep": (args.vllm.enable_sleep, "vLLM cannot sleep on CPU"),
        "vllm.sync_with_ray": (args.vllm.sync_with_ray, "Ray's collectives have no gloo broadcast"),
        "ds.ring_attn_size": (args.ds.ring_attn_size > 1, "ring attention needs flash-attn"),
        "ds.load_in_4bit": (args.ds.load_in_4bit, "4-bit weights need CUDA"),
        "vllm.tensor_parallel_size": (args.vllm.tensor_parallel_size > 1, "one process per engine on CPU"),
    }
    for name, (is_set, reason) in refused.items():
        if is_set:
            raise PreflightError(f"{name}: not on CPU ({reason}); leave it at its default")
    if args.vllm.sync_backend != "gloo":
        raise PreflightError(f"vllm.sync_backend: got {args.vllm.sync_backend}, expected gloo on CPU")


def check_determinism(config: RunConfig, args: SimpleNamespace) -> None:
    """Sampling can repeat itself where each step's weights and requests are the same, whatever the timing."""
    if not config.run.deterministic_sampling:
        return
    asks = {"train.async_enable": args.train.async_enable, "train.agent_func_path": args.train.agent_func_path}
    for name, value in asks.items():
        if value:
            raise PreflightError(
                f"run.deterministic_sampling: not with {name} ({value}), where timing decides what is sampled; "
                "set one of them only"
            )


def check_batches(config: RunConfig, run_dir: Path) -> BatchPlan:
    """Batches divide, GPUs add up and lengths fit. Needs no file and takes no time, so it comes before everything else.

    Raises:
        BatchSizeError: with the numbers.
    """
    counted_here = config.run.device == "cpu" and "RAY_ADDRESS" not in os.environ
    # Before OpenRLHF's own checks: they know that something does not fit, but not the numbers.
    args = parse(to_argv(config.openrlhf_settings(run_dir)))
    return batch_plan(args, config.run.logical_gpus if counted_here else None)


def check_methods(config: RunConfig, args: SimpleNamespace) -> None:
    """The advantage terms and the policy loss have what they need, and make sense with the rest of the run."""
    methods = [(TERM.load(term), term) for term in config.terms] + [(LOSS.load(config.policy_loss), config.policy_loss)]
    for term in config.terms[1:]:
        if TERM.load(term).replaces:
            raise PreflightError(
                f"advantage.terms: {section_of(term)} replaces the advantages, the terms before it would be lost; "
                "put it first"
            )
    for method, source in methods:
        name = section_of(source)
        for need in method.needs:
            _check_need(name, need, args)
        options = config.sections.get(name) or method.Options()
        try:
            method.check(options, args)
        except ValueError as error:
            raise PreflightError(f"{name}: {error}" if name not in str(error) else str(error)) from None


def _check_need(name: str, need: str, args: SimpleNamespace) -> None:
    samples = args.rollout.n_samples_per_prompt
    if need == "groups" and samples < 2:
        raise PreflightError(
            f"rollout.n_samples_per_prompt: got {samples}, {name} compares the rollouts of one prompt and needs at "
            f"least 2; raise it, or take {name} out"
        )
    if need == "ref_log_probs" and not (args.algo.kl.use_loss and args.algo.kl.init_coef > 0):
        raise PreflightError(
            f"algo.kl.use_loss, algo.kl.init_coef: {args.algo.kl.use_loss} and {args.algo.kl.init_coef}, so no "
            f"reference model computes log-probabilities; {name} needs them: set algo.kl.use_loss=true "
            "and algo.kl.init_coef above 0"
        )
    if need == "rollout_log_probs" and args.algo.advantage.is_correction_level == "off":
        raise PreflightError(
            f"algo.advantage.is_correction_level: off, so vLLM gives no log-probabilities; {name} needs them: set it "
            "to token or seq"
        )
    if need not in NEEDS:
        raise PreflightError(f"{name}: needs {need!r}, which no run has; a method can need {', '.join(NEEDS)}")


def needs_scores(config: RunConfig) -> str | None:
    """The first advantage term or loss that counts correct rollouts."""
    methods = [(TERM.load(term), term) for term in config.terms] + [(LOSS.load(config.policy_loss), config.policy_loss)]
    return next((section_of(source) for method, source in methods if "scores" in method.needs), None)


def loaded_models(args: SimpleNamespace) -> dict[str, str]:
    """The models that OpenRLHF loads, by option; its reference model is the policy's."""
    models = {
        "actor.model_name_or_path": args.actor.model_name_or_path or "",
        "reward.model_name_or_path": None if args.reward.remote_url else args.reward.model_name_or_path,
        "critic.model_name_or_path": args.critic.model_name_or_path,  # emptied where the estimator needs none
    }
    return {option: name for option, name in models.items() if name is not None}


def check_model(option: str, name: str) -> None:
    """A model folder with a configuration, or a model that the hub (or its local cache) knows."""
    if not name:
        raise PreflightError(f"{option}: not set; name a model folder or a hub id")
    if problem := model_problem(name):
        several = "; OpenRLHF loads one reward model" if "," in name and option.startswith("reward.") else ""
        raise PreflightError(f"{option}: {problem}{several}")


def uses_our_verifier(args: SimpleNamespace) -> bool:
    """Whether rewards come from the verifier of the run's task."""
    return bool(args.reward.remote_url) and Path(args.reward.remote_url[0]).resolve() == REWARD_FILE


@contextlib.contextmanager
def _task_in_environment(config: RunConfig) -> Iterator[None]:
    before = os.environ.get(TASK_VARIABLE)
    made = config.make_task()
    os.environ[TASK_VARIABLE] = describe(
        config.task, made.options.model_dump(mode="json"), made.grader.model_dump(mode="json")
    )
    try:
        yield
    finally:
        task.cache_clear()
        del os.environ[TASK_VARIABLE]
        if before is not None:
            os.environ[TASK_VARIABLE] = before


def check_reward_source(
    config: RunConfig, args: SimpleNamespace, remote_url: str | None, row: dict[str, Any] | None
) -> None:
    """A term may need to know which rollouts are correct: then the reward source has to return scores.

    A reward function in a file is called once with an empty response: OpenRLHF would only log its exceptions.
    """
    term = needs_scores(config)
    if args.train.agent_func_path or not remote_url:
        if not remote_url and not args.train.agent_func_path and term:
            raise PreflightError(
                f"reward.remote_url: not set, and a reward model gives no scores; {term} needs to know which rollouts "
                f"are correct: name a file with a reward_func that returns `scores`, or take {term} out of "
                "advantage.terms"
            )
        if not args.reward.remote_url and not args.reward.model_name_or_path:
            raise PreflightError(
                "reward.remote_url, reward.model_name_or_path: neither is set, so nothing gives rewards; name a file "
                "with a reward_func, a server or a reward model"
            )
        return
    path = Path(args.reward.remote_url[0])
    if path.suffix != ".py" or uses_our_verifier(args):
        return  # a server, whose answers are checked when they come, or ours, which returns both
    if not path.is_file():
        raise PreflightError(f"reward.remote_url: {path} does not exist")
    spec = importlib.util.spec_from_file_location("reward_func", path)
    assert spec is not None and spec.loader is not None  # true of every existing .py path
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever is wrong in a user's file: a typo, a package that is not there
        place = error.lineno if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].lineno
        raise PreflightError(f"reward.remote_url: {path}, line {place}, cannot be imported: {error!r}") from error
    if not hasattr(module, "reward_func"):
        raise PreflightError(f"reward.remote_url: {path} defines no reward_func(queries, prompts, labels)")
    prompt = str((row or {}).get(args.data.input_key, ""))
    label = (row or {}).get(args.data.label_key or "", "")
    try:
        with _task_in_environment(config):  # a user's function may call the one of the task
            result = module.reward_func([prompt], [prompt], [label])
    except Exception as error:  # whatever a user's function raises; OpenRLHF would lose it
        raise PreflightError(f"reward.remote_url: {path} failed on an empty response: {error!r}") from error
    if not isinstance(result, dict) or result.get("rewards") is None:
        raise PreflightError(f"reward.remote_url: {path} returned {result!r}, expected a dict with `rewards`")
    if term and result.get("scores") is None:
        raise PreflightError(
            f"reward.remote_url: {path} returns no `scores`; {term} needs to know which rollouts are correct: return "
            f"scores (1 correct, 0 wrong) beside rewards, or take {term} out of advantage.terms"
        )
