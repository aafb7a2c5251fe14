"""From the command to the first rollouts of the quickstart, here and in another checkout, alternately.

    git worktree add ../before d0a9051 && python tests/benchmarks/bench_start.py --other ../before

Each run is in a folder of its own, in which the tiny model is warmed up first and the command then started again, as a
second run finds it. Runs are ended when they have evaluated the untrained policy; the evaluation is not counted.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
STAMP = Path("runs/assets/arithmetic/made_with.json")
LONGEST = 900.0
ATTEMPTS = 3


def _start(checkout: Path, folder: Path) -> tuple[float, float]:
    """Wall-clock time of the command, and of the first rollouts."""
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(checkout)}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | offline
    output = f"runs/{time.monotonic_ns()}"
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "train", str(checkout / "recipes/quickstart")]
    begin = time.time()
    with (folder / "output.txt").open("w") as said:
        process = subprocess.Popen(
            [*command, "--set", f"run.output_dir={output}"], cwd=folder, env=environment, stdout=said, stderr=said
        )
        try:
            while True:
                files = list((folder / output).glob("*/metrics.jsonl"))
                text = files[0].read_text() if files else ""
                if "\n" in text:
                    line = json.loads(text.partition("\n")[0])
                    return begin, time.time() - line["timing/evaluation"]
                if process.poll() is not None or time.time() - begin > LONGEST:
                    raise RuntimeError(f"{checkout}: no rollouts\n{(folder / 'output.txt').read_text()[-2000:]}")
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _measure(checkout: Path) -> dict[str, float]:
    for _ in range(ATTEMPTS - 1):
        try:
            return _measure_once(checkout)
        except RuntimeError as error:
            # Before ports were held, one start in a few met another's (docs/reliability.md).
            print(f"{error}\nTried again.", file=sys.stderr)
    return _measure_once(checkout)


def _measure_once(checkout: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin, rollouts = _start(checkout, folder)
        made = (folder / STAMP).stat().st_mtime
        again, rollouts_again = _start(checkout, folder)
    return {"warm-up": made - begin, "warm-up and start": rollouts - begin, "start": rollouts_again - again}


def main(
    other: Annotated[Path, typer.Option(help="Another checkout of this project.")],
    pairs: Annotated[int, typer.Option(help="Measurements of each, alternately.", min=1)] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure the warm-up and the start of both; print medians and what is left of the other's."""
    console = Console(width=110)
    found: dict[str, list[dict[str, float]]] = {"other": [], "here": []}
    for _ in range(pairs):
        for name, checkout in (("other", other.resolve()), ("here", ROOT)):
            found[name].append(_measure(checkout))
            console.print(name, {what: round(seconds, 1) for what, seconds in found[name][-1].items()})
    table = Table("seconds", title=f"medians of {pairs}")
    for column in ("other", "here", "here / other"):
        table.add_column(column, justify="right")
    for what in found["here"][0]:
        before, now = (statistics.median(one[what] for one in found[name]) for name in ("other", "here"))
        table.add_row(what, f"{before:.1f}", f"{now:.1f}", f"{now / before:.2f}")
    console.print(table)
    if json_file:
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
