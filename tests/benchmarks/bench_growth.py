"""How estimator, terms, rollout log, report and grading grow with the rollouts. Start it with --help."""

import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "support"), str(Path(__file__).resolve().parents[2])]

from bench_reward import ordinary_pairs  # noqa: E402
from ktae_rollouts import realistic_rollouts  # noqa: E402
from report_runs import training_row, write_run_json  # noqa: E402

from openrlhf_ktae.advantage import KtaeConfig, key_token_values  # noqa: E402
from openrlhf_ktae.advantage.batch import RolloutBatch  # noqa: E402
from openrlhf_ktae.advantage.term import TERM, apply_terms  # noqa: E402
from openrlhf_ktae.advantage.terms import TERMS  # noqa: E402
from openrlhf_ktae.plugins import loaded  # noqa: E402
from openrlhf_ktae.reward.grading import Grader  # noqa: E402
from openrlhf_ktae.run_folder import VOCABULARY_FILE  # noqa: E402
from openrlhf_ktae.training import cpu  # noqa: E402

cpu.install()

from openrlhf_ktae.training.rollout_log import Vocabulary, write_rollouts  # noqa: E402

SAMPLES = 16
SIZES = (1, 4, 16)
ANSWERS_PER_ROLLOUT = 0.25
"""Of the rollouts' answers so many are graded here: a rate says as much."""


_REPORT = """
import sys, time
from pathlib import Path
from openrlhf_ktae.report import write_report
start = time.perf_counter()
write_report([Path(sys.argv[1])])
seconds = time.perf_counter() - start
# Not ru_maxrss: that begins with the size of the process which started this one.
status = Path("/proc/self/status").read_text().splitlines()
print(seconds, int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1e3)
"""


def batch_of(prompts: int) -> tuple[RolloutBatch, torch.Tensor]:
    """A step's batch and its rollout-level advantages."""
    rollouts = realistic_rollouts(prompts, SAMPLES)
    scores, shape = rollouts.correct.float(), rollouts.mask.shape
    grouped = scores.view(-1, SAMPLES)
    normed = ((grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-9)).flatten()
    generator = torch.Generator().manual_seed(0)
    batch = RolloutBatch(
        token_ids=rollouts.token_ids.int(), mask=rollouts.mask, group=rollouts.group, rewards=scores, scores=scores,
        log_probs=-torch.rand(shape, generator=generator), entropies=torch.rand(shape, generator=generator),
        truncated=torch.zeros(len(scores), dtype=torch.bool), labels=["1"] * len(scores), step=1,
        prompts=[f"prompt {group}" for group in rollouts.group.tolist()],
        info={"group_id": torch.arange(len(scores)).float() % 2},
    )  # fmt: skip
    return batch, normed[:, None] * rollouts.mask


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def write_run(folder: Path, step_files: Path, steps: int) -> None:
    """A run of ``steps`` logged steps, whose files are all those of one step."""
    (folder / "rollouts").mkdir(parents=True)
    rng = random.Random(0)
    write_run_json(folder, "growth", 0, "finished", KtaeConfig())
    lines = [training_row(rng, step, steps) for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "rollouts" / VOCABULARY_FILE).hardlink_to(step_files / VOCABULARY_FILE)
    for step in range(1, steps + 1):
        for end in ("", "_tokens"):
            (folder / "rollouts" / f"step_{step:05d}{end}.parquet").hardlink_to(step_files / f"step_00001{end}.parquet")


def measure(prompts: int, steps: int, folder: Path) -> dict[str, float]:
    """Seconds of each part for a step of so many prompts (the report: for a run of ``steps`` such steps)."""
    batch, advantages = batch_of(prompts)
    arguments = batch.token_ids, batch.mask, batch.correct, batch.group
    key_token_values(*(tensor[:SAMPLES] for tensor in arguments), threads=1)
    found = {"estimator": seconds(lambda: key_token_values(*arguments, threads=1))}
    for name in TERMS:
        term = loaded(TERM, [name], {})
        if "segments" in term[name].needs:  # of rollouts that are sampled in segments: bench_terms.py
            continue
        found[f"term {name}"] = seconds(lambda term=term: apply_terms(term, batch, advantages))
    terms = loaded(TERM, ["ktae"], {})
    outcome = apply_terms(terms, batch, advantages)
    found["rollout log"] = seconds(
        lambda: write_rollouts(
            folder, batch, outcome, terms, Vocabulary(folder / VOCABULARY_FILE, lambda token_id: f" w{token_id}")
        )
    )
    found["log, MB"] = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    pairs = ordinary_pairs(int(len(batch.group) * ANSWERS_PER_ROLLOUT), seed=prompts)
    answers = [(rf"\boxed{{{answer}}}", gold) for answer, gold in pairs]
    grader = Grader(workers=1)
    grader.grade_many(answers[:1])
    found["grading"] = seconds(lambda: grader.grade_many(answers)) / ANSWERS_PER_ROLLOUT
    grader.close()
    run = folder / "run"
    write_run(run, folder, steps)
    # In a process of its own, for its memory.
    done = subprocess.run([sys.executable, "-c", _REPORT, run], check=True, capture_output=True, text=True)
    found["report"], found["report, memory MB"] = map(float, done.stdout.split()[-2:])
    found["report, page MB"] = (run / "report.html").stat().st_size / 1e6
    return found


def main(
    prompts: Annotated[int, typer.Option(help="Prompts of the smallest step, 16 rollouts each.", min=1)] = 64,
    steps: Annotated[int, typer.Option(help="Logged steps of the run whose report is written.", min=1)] = 100,
) -> None:
    """Measure steps of 1, 4 and 16 times as many prompts; the slope is 1 where time grows as the rollouts do."""
    torch.set_num_threads(1)
    results = []
    for factor in SIZES:
        folder = Path(tempfile.mkdtemp())
        try:
            results.append(measure(factor * prompts, steps, folder))
        finally:
            shutil.rmtree(folder)
    table = Table("seconds", title=f"{SAMPLES} rollouts a prompt; report of {steps} such steps")
    for factor in SIZES:
        table.add_column(f"{factor * prompts} prompts", justify="right")
    table.add_column("slope", justify="right")
    for name in results[0]:
        values = [result[name] for result in results]
        slope = math.log(values[-1] / values[0]) / math.log(SIZES[-1] / SIZES[0])
        table.add_row(name, *(f"{value:.2f}" for value in values), f"{slope:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
