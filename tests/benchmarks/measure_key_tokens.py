"""Does the estimator mark the tokens that decide? Its variants on the same rollouts, logged by runs of the tiny model.

    python tests/benchmarks/measure_key_tokens.py runs/sweeps/evidence/runs/*/grpo/seed-*/latest

The rollouts are those of the runs' logged steps; a run without KTAE shows what each variant would have said of them.
Numbers are means over the runs.
"""

import argparse
import statistics
from pathlib import Path

import pyarrow.parquet as pq
import torch

from openrlhf_ktae.advantage import KtaeConfig, key_token_values
from openrlhf_ktae.run_folder import RunFolder, read_vocabulary
from openrlhf_ktae.sweep.key_tokens import KeyTokenQuality, quality, task_of
from openrlhf_ktae.tasks.tiny_model import EOS, PAD

VARIANTS = {
    "as published": {},
    "without tf (gamma 0)": {"gamma": 0.0},
    "tf_smoothing 1": {"tf_smoothing": 1.0},
    "tf_smoothing 4": {"tf_smoothing": 4.0},
    "without Fisher (alpha 0)": {"alpha": 0.0},
    "without IG (beta 0)": {"beta": 0.0},
}


def measure(folder: RunFolder, file: Path) -> dict[str, KeyTokenQuality]:
    """The quality of every variant on the rollouts of one file, in its groups with right and wrong rollouts."""
    texts, task = read_vocabulary(folder.vocabulary), task_of(folder.read()["config"])
    rows = pq.read_table(file, columns=["group", "correct", "token_ids"]).to_pylist()
    right, wrong = ({row["group"] for row in rows if row["correct"] is side} for side in (True, False))
    rows = [row for row in rows if row["group"] in right & wrong]
    lengths = [len(row["token_ids"]) for row in rows]
    ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : lengths[place]] = torch.tensor(row["token_ids"])
    mask = torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]
    correct = torch.tensor([row["correct"] for row in rows])
    group = torch.tensor([row["group"] for row in rows])
    special = tuple(token_id for token_id, text in texts.items() if text in (PAD, EOS))
    decisive = [task.decisive([texts[token] for token in row["token_ids"]]) or [] for row in rows]
    found = {}
    for name, changes in VARIANTS.items():
        values = key_token_values(ids, mask, correct, group, KtaeConfig(ignore_token_ids=special, **changes))
        of_rows = [values[place, :length].tolist() for place, length in enumerate(lengths)]
        measured = quality(int(file.stem.partition("_")[2]), of_rows, decisive, 1.0)
        if measured:
            found[name] = measured
    return found


def main() -> None:
    """Prints a table per logged step."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    runs = [RunFolder(path) for path in parser.parse_args().runs]
    steps: dict[str, list[dict[str, KeyTokenQuality]]] = {}
    for run in runs:
        for file in sorted(run.rollouts.glob("step_?????.parquet")):
            steps.setdefault(file.stem, []).append(measure(run, file))
    for step, measured in steps.items():
        share = statistics.fmean(next(iter(found.values())).decisive_share for found in measured)
        print(f"\n{step}: {len(measured)} runs, {share:.3f} of the tokens decide")
        print("| variant | precision | recall |\n|---|---:|---:|")
        for name in VARIANTS:
            precision = statistics.fmean(found[name].precision or 0.0 for found in measured)
            recall = statistics.fmean(found[name].recall or 0.0 for found in measured)
            print(f"| {name} | {precision:.3f} | {recall:.3f} |")


if __name__ == "__main__":
    main()
