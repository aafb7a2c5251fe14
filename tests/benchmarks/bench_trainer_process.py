"""Seconds and memory of the trainer process's part of a step, OpenRLHF alone beside ours. Start it with --help.

Everything is real but the neural networks: Ray, OpenRLHF's generator, experience maker, trainer and actor groups, and
ours in their places. The engines' responses lie in the object store before the step; the policy workers answer at once.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])
os.environ |= {"RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1", "TOKENIZERS_PARALLELISM": "false", "NUMBA_NUM_THREADS": "1"}

from openrlhf_ktae.training import cpu  # noqa: E402

cpu.install()

import numpy as np  # noqa: E402
import openrlhf.trainer.ppo_trainer as ppo_trainer  # noqa: E402
import ray  # noqa: E402
import stand_ins  # noqa: E402
import torch  # noqa: E402
import typer  # noqa: E402
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker  # noqa: E402
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from openrlhf_ktae.advantage.estimator import values  # noqa: E402
from openrlhf_ktae.openrlhf_options import check, to_argv  # noqa: E402
from openrlhf_ktae.recipe import resolve  # noqa: E402
from openrlhf_ktae.training.options import TrainingOptions  # noqa: E402
from openrlhf_ktae.training.samples_generator import Generator  # noqa: E402
from openrlhf_ktae.training.trainer import Training  # noqa: E402

AROUND, KERNEL = "KTAE: what is around the estimator", "KTAE: the estimator"
WHOLE = "whole step"
RECIPE = ROOT / "recipes" / "grpo_ktae_qwen2.5_math_7b"
WARM_UP_PROMPTS = 8


class _OpenRLHF(ppo_trainer.BasePPOTrainer):
    """OpenRLHF's trainer, without the data sets that its subclass reads."""


class _Ours(Training, _OpenRLHF):
    """What stands in its place."""


def _now() -> np.ndarray:
    """Seconds that have passed, and those in which this thread computed: others on the machine change these less."""
    return np.array([time.perf_counter(), time.thread_time()])


class Clock:
    """Seconds by part, passed and computed; a part inside another one is taken out of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
        self._inside: list[np.ndarray] = []

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Counts the calls of ``owner.name`` as ``part``."""
        function = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inside.append(np.zeros(2))
            start = _now()
            try:
                return function(*args, **kwargs)
            finally:
                whole = _now() - start
                self.seconds[part] += whole - self._inside.pop()
                if self._inside:
                    self._inside[-1] += whole

        setattr(owner, name, timed)


class PeakMemory:
    """The most anonymous memory of this process (without Ray's shared memory) while the block runs."""

    def __enter__(self) -> "PeakMemory":
        self.before = self.peak = _anonymous_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.peak = max(self.peak, _anonymous_bytes())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


def _arguments() -> tuple[Any, SimpleNamespace]:
    config = resolve(RECIPE, [])
    settings = {name: value for name, value in config.openrlhf.items() if "${" not in str(value)}
    return config, check(to_argv(settings | {"reward.remote_url": "reward.py"}))


class TrainerProcess:
    """One side of the comparison, in a process of its own."""

    def __init__(self, ours: bool, workers: list[Any], responses: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        config, self._args = _arguments()
        self._args.actor.num_nodes, self._args.actor.num_gpus_per_node = 1, len(workers)
        self._folder = Path(tempfile.mkdtemp())
        strategy, words = SimpleNamespace(args=self._args), stand_ins.Words()
        run = config.run.model_copy(update={"rollout_log_steps": 2})  # even steps are logged, and the first one
        sections = {name: options.model_dump() for name, options in config.sections.items()}
        options = {"options": TrainingOptions(str(self._folder), run, sections)} if ours else {}
        engines = [stand_ins.Engine(responses)]
        self._trainer: Any = (_Ours if ours else _OpenRLHF)(
            strategy, stand_ins.policy_group(workers), None, None, None, engines, words, **options
        )
        prompts = stand_ins.Prompts(list(responses))
        self._generator = (Generator if ours else SamplesGenerator)(strategy, prompts, None, words, engines, **options)
        self._clock = Clock()
        maker = self._trainer.experience_maker
        places = [
            (self._generator, "generate_samples", "responses become experiences"),
            (maker, "split_rollout_samples", "packing into micro batches"),
            (maker, "make_experience", "log-probabilities: sending and waiting"),
            (RemoteExperienceMaker, "compute_advantages_and_returns", "rollout-level advantages"),
            (self._trainer, "_compute_rollout_stats", "statistics, metrics, rollout log"),
            (self._trainer.actor_model_group, "async_run_method_batch", "writing to Ray's store"),
            (ppo_trainer, "balance_experiences", "balancing over workers"),
        ]
        if ours:
            places += [(maker, "compute_advantages_and_returns", AROUND), (values, "key_token_values", KERNEL)]
        for place in places:
            self._clock.wrap(*place)

    def step(self, prompts: int, number: int) -> dict[str, Any]:
        """One step: generator, trainer and the sending; seconds and bytes by part. An odd number is not logged."""
        self._args.rollout.batch_size = prompts
        self._generator._dataloader_iter, self._generator._sample_buffer = iter(self._generator.prompts_dataloader), []
        self._clock.seconds.clear()
        with PeakMemory() as memory:
            start = _now()
            samples, *_ = self._generator.generate_samples(max_len=4096, max_new_tokens=3072)
            self._trainer.train_step(samples, number - 1)
            whole = _now() - start
        rest = whole - sum(self._clock.seconds.values())
        seconds = {**self._clock.seconds, "the rest": rest, WHOLE: whole}
        return {
            "parts": {part: float(passed) for part, (passed, _) in seconds.items()},
            "computed": {part: float(computed) for part, (_, computed) in seconds.items()},
            "peak_bytes": memory.peak - memory.before,
        }

    def log_bytes(self) -> int:
        """Size of the rollout log of the last logged step, once it is complete."""
        self._trainer._rollout_log.finish()
        newest = max(path.name[: len("step_00000")] for path in self._folder.glob("rollouts/step_*.parquet"))
        return sum(path.stat().st_size for path in self._folder.glob(f"rollouts/{newest}*"))


def _median(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Each figure's median over steps; the most of their memory."""
    of_parts = {
        kind: {part: statistics.median(step[kind][part] for step in steps) for part in steps[0][kind]}
        for kind in ("parts", "computed")
    }
    return of_parts | {"peak_bytes": max(step["peak_bytes"] for step in steps)}


def _to_kernel(parts: dict[str, float]) -> float:
    return 1 + parts[AROUND] / parts[KERNEL]


def _table(columns: dict[str, dict[str, Any]], kind: str, title: str) -> Table:
    table = Table("part", title=title)
    for name in columns:
        table.add_column(name, justify="right")
    steps = columns.values()
    for part in columns["ours, logged"][kind]:
        found = [step[kind].get(part) for step in steps]
        table.add_row(part, *("-" if seconds is None else f"{seconds:.3f}" for seconds in found))
    table.add_section()
    table.add_row("most memory, GiB", *(f"{step['peak_bytes'] / 2**30:.2f}" for step in steps))
    return table


def main(
    prompts: Annotated[int, typer.Option(help="Prompts of a step; the paper's batch has 1024.", min=1)] = 128,
    workers: Annotated[int, typer.Option(help="Policy workers that the batch is sent to.", min=1)] = 2,
    repeats: Annotated[int, typer.Option(help="Steps of which the median counts, logged ones as many.", min=1)] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Time a step of the trainer process at the settings of the published 7 B recipe, 16 rollouts a prompt."""
    ray.init(
        address="local", num_cpus=workers + 1, include_dashboard=False,
        object_store_memory=2**28 + prompts * 9 * 2**20,
        log_to_driver=False, runtime_env={"worker_process_setup_hook": "openrlhf_ktae.training.cpu.install"},
    )  # fmt: skip
    policy = [ray.remote(stand_ins.PolicyWorker).remote() for _ in range(workers)]
    columns: dict[str, dict[str, Any]] = {}
    log_bytes = 0
    for name, is_ours in (("OpenRLHF", False), ("ours", True)):
        responses = stand_ins.put_responses(max(prompts, WARM_UP_PROMPTS), 16, is_ours)
        side = ray.remote(TrainerProcess).remote(is_ours, policy, responses)
        ray.get(side.step.remote(WARM_UP_PROMPTS, 1))
        # The first touch of memory that later steps find again.
        columns[f"{name}, first"] = ray.get(side.step.remote(prompts, 3))
        unlogged, logged = [], []
        for number in range(5, 5 + 2 * repeats, 2):
            unlogged.append(ray.get(side.step.remote(prompts, number)))
            if is_ours:
                logged.append(ray.get(side.step.remote(prompts, number + 1)))
                log_bytes = ray.get(side.log_bytes.remote())  # waits until all is written
        columns[name] = _median(unlogged)
        if logged:
            columns["ours, logged"] = _median(logged)
        ray.kill(side)
        del responses
    openrlhf, ours, logged, first = (columns[name] for name in ("OpenRLHF", "ours", "ours, logged", "ours, first"))
    kernel = ours["parts"][KERNEL]
    figures = {
        "prompts": prompts,
        "openrlhf_seconds": openrlhf["parts"][WHOLE],
        "ours_seconds": ours["parts"][WHOLE],
        "ours_share": ours["parts"][WHOLE] / openrlhf["parts"][WHOLE],
        "ours_share_computed": ours["computed"][WHOLE] / openrlhf["computed"][WHOLE],
        "ktae_seconds": ours["parts"][AROUND] + kernel,
        "kernel_seconds": kernel,
        "ktae_to_kernel": _to_kernel(ours["parts"]),
        "ktae_to_kernel_computed": _to_kernel(ours["computed"]),
        "ktae_to_kernel_first_computed": _to_kernel(first["computed"]),
        "blocking_log_seconds": logged["parts"][WHOLE] - ours["parts"][WHOLE],
        "log_bytes": log_bytes,
        "extra_bytes": max(ours["peak_bytes"] - openrlhf["peak_bytes"], 0),
        "parts": {name: step["parts"] for name, step in columns.items()},
        "computed": {name: step["computed"] for name, step in columns.items()},
    }
    console = Console(width=130)
    console.print(_table(columns, "parts", "seconds of the trainer process"))
    console.print(_table(columns, "computed", "seconds in which its thread computed"))
    console.print({name: value for name, value in figures.items() if name not in ("parts", "computed")})
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
