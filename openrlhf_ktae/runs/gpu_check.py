"""``openrlhf-ktae doctor --gpu``: does the GPU path run on this machine? A tiny model, no download, one JSON file.

Each check is a command in a process of its own, so that one that fails leaves the others alone.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from openrlhf_ktae.files import write_json
from openrlhf_ktae.run_folder import PACKAGES, now
from openrlhf_ktae.versions import installed_versions

_LIMIT_SECONDS = 900
_COLOURS = {"passed": "green", "failed": "bold red", "skipped": "yellow"}
_RECIPES = {"gpu": "recipes/gpu_check", "cpu": "recipes/cpu_grpo_ktae"}

_OWN_GPUS = ("train.colocate_all=false", "vllm.enable_sleep=false", "ds.enable_sleep=false", "algo.kl.init_coef=0")
"""Policy and vLLM each have a GPU, and the weights travel."""


@dataclass(frozen=True)
class Check:
    """Something that has to work."""

    name: str
    command: Callable[["Machine"], list[str]]
    gpus: int = 0
    """GPUs it takes; on a CPU logical ones."""
    on_cpu: bool = False
    """Whether it can run with ``--device cpu``."""
    with_flash_attn: bool = False
    """Whether it says something only where flash-attn is installed."""
    after: str | None = None
    """The check whose result it works on."""


@dataclass(frozen=True)
class Result:
    """A line of the report."""

    name: str
    verdict: str
    """``passed``, ``failed`` or ``skipped``."""
    reason: str
    """Why it failed or was skipped; what a passed one measured."""
    seconds: float
    log: str
    """The end of what the command printed, of a failed check."""


@dataclass(frozen=True)
class Machine:
    """Where the checks run."""

    device: str
    gpus: int
    flash_attn: bool
    folder: Path

    def run_folder(self, name: str) -> Path:
        """The runs of a training check."""
        return self.folder / name.replace(" ", "_").replace(",", "")


def _train(name: str, *overrides: str) -> Callable[[Machine], list[str]]:
    def command(machine: Machine) -> list[str]:
        settings = [f"run.output_dir={machine.run_folder(name)}", "run.max_restarts=0", *overrides]
        if machine.device == "cpu":
            settings += ["data.max_samples=32", "eval.dataset=null"]
        program = [sys.executable, "-m", "openrlhf_ktae.cli", "train", _RECIPES[machine.device]]
        return program + [part for setting in settings for part in ("--set", setting)]

    return command


def _merge(name: str) -> Callable[[Machine], list[str]]:
    def command(machine: Machine) -> list[str]:
        run = machine.run_folder(name)
        return [sys.executable, "-m", "openrlhf_ktae.cli", "merge", str(run / "latest"), str(run / "merged")]

    return command


def _evaluate(name: str) -> Callable[[Machine], list[str]]:
    def command(machine: Machine) -> list[str]:
        run = machine.run_folder(name)
        benchmark = machine.folder / "benchmark.yaml"
        assets = Path("runs/assets/gpu_check" if machine.device == "gpu" else "runs/assets/arithmetic").resolve()
        benchmark.write_text(
            f"name: check\ntask: arithmetic\npath: {assets / 'evaluation.jsonl'}\n"
            "columns: {problem: input, answer: label}\n"
        )
        options = ["--max-model-len", "64", "--max-tokens", "48", "--temperature", "1", "--limit", "64"]
        where = ["--model", str(run / "latest" / "model"), "--output", str(run / "evaluation")]
        return [sys.executable, "-m", "eval", "run", *where, "--benchmark", str(benchmark), *options]

    return command


def _kernel(machine: Machine) -> list[str]:
    return [sys.executable, "-m", "openrlhf_ktae.advantage.estimator.check", machine.device]


ZERO_2, ZERO_3 = "train, one GPU by turns, ZeRO-2", "train, one GPU by turns, ZeRO-3"
SEPARATE = "train, separate engines"
CHECKS = (
    Check("kernel", _kernel, gpus=1, on_cpu=True),
    Check(ZERO_2, _train(ZERO_2), gpus=1),
    Check(ZERO_3, _train(ZERO_3, "ds.zero_stage=3"), gpus=1),
    Check(
        "train, without flash-attn",
        _train(
            "train, without flash-attn",
            "train.dynamic_batch_enable=false",
            "ds.packing_samples=false",
            "ds.attn_implementation=sdpa",
        ),
        gpus=1,
        with_flash_attn=True,
    ),
    Check(SEPARATE, _train(SEPARATE, *_OWN_GPUS), gpus=2, on_cpu=True),
    Check(
        "train, asynchronous", _train("train, asynchronous", *_OWN_GPUS, "train.async_enable=true"), gpus=2, on_cpu=True
    ),
    Check(
        "train, two policy workers",
        _train(
            "train, two policy workers",
            "actor.num_gpus_per_node=2",
            "ref.num_gpus_per_node=2",
            "vllm.num_engines=2",
        ),
        gpus=2,
    ),
    Check("merge, ZeRO-2", _merge(ZERO_2), after=ZERO_2),
    Check("merge, ZeRO-3", _merge(ZERO_3), after=ZERO_3),
    Check("merge, separate engines", _merge(SEPARATE), on_cpu=True, after=SEPARATE),
    Check("evaluate", _evaluate(ZERO_2), gpus=1, after=ZERO_2),
    Check("evaluate, separate engines", _evaluate(SEPARATE), on_cpu=True, after=SEPARATE),
)


def why_skipped(check: Check, machine: Machine, before: dict[str, str]) -> str | None:
    """The reason why a check is not run here; None if it is. ``before``: verdicts of the checks so far."""
    if machine.device == "cpu" and not check.on_cpu:
        return "needs a GPU"
    if machine.device == "gpu" and check.gpus > machine.gpus:
        return f"needs {check.gpus} GPUs, this machine has {machine.gpus}"
    if check.with_flash_attn and not machine.flash_attn:
        return "flash-attn is not installed: every run here is one without it"
    if check.after and before.get(check.after) != "passed":
        return f"needs the result of: {check.after}"
    return None


def run_checks(machine: Machine, names: Sequence[str] = ()) -> Iterator[Result]:
    """Runs the checks, or those whose name starts with one of ``names``, and yields a result after each."""
    before: dict[str, str] = {}
    for check in CHECKS:
        if names and not check.name.startswith(tuple(names)):
            continue
        if reason := why_skipped(check, machine, before):
            result = Result(check.name, "skipped", reason, 0.0, "")
        else:
            result = _run(check.name, check.command(machine))
        before[check.name] = result.verdict
        yield result


def _run(name: str, command: list[str]) -> Result:
    start = time.monotonic()
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode(errors="replace") if not isinstance(error.stdout, str) else error.stdout
        return Result(name, "failed", f"not done after {_LIMIT_SECONDS} s", float(_LIMIT_SECONDS), str(output)[-4000:])
    seconds = round(time.monotonic() - start, 1)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    measured = next((line.removeprefix("measured: ") for line in lines if line.startswith("measured: ")), "")
    if done.returncode == 0:
        return Result(name, "passed", measured, seconds, "")
    blamed = [line for line in lines if line.startswith(("training failed", "error", "RuntimeError", "ValueError"))]
    reason = blamed[0] if blamed else f"exit code {done.returncode}: {lines[-1] if lines else 'no output'}"
    return Result(name, "failed", reason, seconds, done.stdout[-4000:])


def gpu_check_command(device: str, output: Path, names: Sequence[str], findings: dict[str, Any]) -> int:
    """Runs the checks, prints a line for each and writes ``output``; returns 1 if one failed.

    Args:
        device: ``gpu`` or ``cpu``.
        output: JSON file for a bug report.
        names: starts of the names of the checks to run; none means all.
        findings: what doctor found, for the same file.
    """
    import importlib.util

    from openrlhf_ktae.runs.gpus import gpus_here

    console = Console(highlight=False)
    gpus = len(gpus_here())
    if device == "gpu" and gpus == 0:
        console.print("[bold red]error[/] no GPU here; --device cpu checks what can run without one")
        return 2
    folder = Path("runs/gpu_check") / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    machine = Machine(device, gpus, importlib.util.find_spec("flash_attn") is not None, folder)
    results = []
    for result in run_checks(machine, names):
        results.append(result)
        line = f"[{_COLOURS[result.verdict]}]{result.verdict:8}[/]{result.seconds:6.0f} s  {result.name}"
        console.print(line + (f": {escape(result.reason)}" if result.reason else ""), soft_wrap=True)
        report = {"time": now(), "device": device, "versions": installed_versions(PACKAGES), "findings": findings}
        write_json(output, report | {"checks": [asdict(one) for one in results]})
    failed = [result for result in results if result.verdict == "failed"]
    console.print(f"{output}: attach it to a report of a problem. Logs of the runs: {folder}/*/latest/train.log")
    return int(bool(failed) or not results)
