"""The quickstart's job in TRL and here, alternately on this machine: median seconds of a step. Start it with --help.

Both train the same tiny model on the same prompts: 32 x 8 rollouts of 33 tokens a step, GRPO with a KL loss at the same
learning rate, eager attention, two threads. TRL is one process in float32 that samples with Transformers; ours is the
quickstart as it is (bfloat16, vLLM, Ray), with KTAE. A step is the time from the end of one to the end of the next.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path("runs/assets/arithmetic")
PROMPTS, SAMPLES, TOKENS = 32, 8, 48
FIRST_STEPS = 2
"""Steps that are not counted: compiling, first touch of memory, caches."""

TRL = """
import json, sys, time
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

assets, steps, prompts, samples, tokens, output = sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6]
torch.set_num_threads(2)
ends = []

class Clock(TrainerCallback):
    def on_step_end(self, *_, **__):
        ends.append(time.monotonic())

def is_correct(completions, answer, **_):
    return [float(text.endswith("#" + label)) for text, label in zip(completions, answer, strict=True)]

rows = [json.loads(line) for line in open(assets + "/train.jsonl", encoding="utf-8")][: prompts * steps]
model = AutoModelForCausalLM.from_pretrained(assets + "/model", dtype=torch.float32, attn_implementation="eager")
trainer = GRPOTrainer(
    model=model,
    processing_class=AutoTokenizer.from_pretrained(assets + "/model"),
    reward_funcs=is_correct,
    args=GRPOConfig(
        output_dir=output, use_cpu=True, bf16=False, max_steps=steps, per_device_train_batch_size=prompts * samples,
        num_generations=samples, max_completion_length=tokens, learning_rate=2e-4, beta=1e-3,
        gradient_checkpointing=False, report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
    ),
    train_dataset=Dataset.from_dict({"prompt": [r["input"] for r in rows], "answer": [r["label"] for r in rows]}),
    callbacks=[Clock()],
)
trainer.train()
log = [line for line in trainer.state.log_history if "completions/mean_length" in line]
print(json.dumps({"ends": ends, "accuracy": [line["reward"] for line in log],
                  "tokens": [line["completions/mean_length"] for line in log]}))
"""


def _environment(threads: int) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return os.environ | offline | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}


def _run(command: list[str], folder: Path, threads: int) -> str:
    with (folder / "errors.txt").open("w") as errors:
        done = subprocess.run(
            command, cwd=ROOT, env=_environment(threads), text=True, stdout=subprocess.PIPE, stderr=errors
        )
    if done.returncode:
        last = (done.stdout + (folder / "errors.txt").read_text())[-3000:]
        raise SystemExit(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{last}")
    return done.stdout


def _of_trl(python: Path, steps: int, folder: Path) -> dict[str, list[float]]:
    arguments = [ROOT / ASSETS, steps, PROMPTS, SAMPLES, TOKENS, folder / "trl"]
    found = json.loads(_run([str(python), "-c", TRL, *map(str, arguments)], folder, threads=2).splitlines()[-1])
    return {"seconds": _between(found["ends"]), "accuracy": found["accuracy"], "tokens": found["tokens"]}


def _of_ours(steps: int, folder: Path) -> dict[str, list[float]]:
    settings = {
        "data.max_samples": PROMPTS * steps,
        "eval.steps": 10**6,
        "run.evaluate_first": "false",
        "run.output_dir": folder / "runs",
    }
    overrides = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "train", str(ROOT / "recipes/quickstart"), *overrides]
    _run(command, folder, threads=1)
    metrics = folder / "runs" / "latest" / "metrics.jsonl"
    lines = [line for line in map(json.loads, metrics.read_text().splitlines()) if line["kind"] == "train"]
    return {
        "seconds": _between([line["seconds"] for line in lines]),
        "accuracy": [line["rollout/accuracy"] for line in lines],
        "tokens": [line["response_length"] for line in lines],
    }


def _between(ends: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(ends)]


def _median(found: dict[str, list[float]]) -> float:
    return statistics.median(found["seconds"][FIRST_STEPS - 1 :])


def main(
    pairs: Annotated[int, typer.Option(help="Runs of each, alternately.", min=1)] = 5,
    steps: Annotated[int, typer.Option(help="Steps of a run; the first two are not counted.", min=4, max=40)] = 15,
    trl_python: Annotated[
        Path, typer.Option(help="Python with TRL 1.16, by default this one: scripts/setup.sh installs it on CPU.")
    ] = Path(sys.executable),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Run TRL and ours in turn; print the median step of each pair, and ours divided by TRL's."""
    version = _run(
        [str(trl_python), "-c", "import trl; print(trl.__version__)"], Path(tempfile.gettempdir()), 1
    ).split()[-1]
    console = Console(width=110)
    table = Table("pair", title=f"seconds of a step, TRL {version} beside ours")
    for column in ("TRL", "ours", "ours / TRL", "accuracy of the last step: TRL", "ours"):
        table.add_column(column, justify="right")
    found = []
    for number in range(1, pairs + 1):
        with tempfile.TemporaryDirectory() as folder:
            # Ours first: it makes the model and the prompts where they are missing.
            ours, trl = _of_ours(steps, Path(folder)), _of_trl(trl_python.absolute(), steps, Path(folder))
        seconds = _median(trl), _median(ours)
        found.append({"trl": trl, "ours": ours, "trl_seconds": seconds[0], "ours_seconds": seconds[1]})
        accuracy = (f"{side['accuracy'][-1]:.2f}" for side in (trl, ours))
        table.add_row(str(number), *(f"{value:.2f}" for value in seconds), f"{seconds[1] / seconds[0]:.2f}", *accuracy)
        console.print(f"pair {number}: TRL {seconds[0]:.2f} s, ours {seconds[1]:.2f} s a step")
    ratio = statistics.median(pair["ours_seconds"] / pair["trl_seconds"] for pair in found)
    console.print(table)
    console.print(f"median ratio: {ratio:.2f}")
    if json_file:
        figures = {"trl_version": version, "steps": steps, "ratio": ratio, "pairs": found}
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
