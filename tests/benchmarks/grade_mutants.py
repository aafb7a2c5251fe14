"""Grades wrong answers that were made of right ones, and lists those that are accepted. Start it with --help."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "support"), str(Path(__file__).resolve().parents[2])]

from answer_pairs import PAIRS  # noqa: E402
from mutants import MUTATIONS, mutants  # noqa: E402
from yardstick import read_pairs  # noqa: E402

from openrlhf_ktae.reward.grading import Grader  # noqa: E402
from openrlhf_ktae.tasks.math.benchmarks import load_benchmarks  # noqa: E402

console = Console(width=max(140, Console().width))


def main(
    count: Annotated[int, typer.Option(help="Wrong answers.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the changes.")] = 0,
    suite: Annotated[Path | None, typer.Option(help="Benchmark suite, whose answers are changed as well.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 2,
) -> None:
    """Print how many changed answers are accepted, by the kind of change, and each of them."""
    pairs = [(pair.answer, pair.gold) for pair in read_pairs() if pair.equal]
    pairs += [(answer, gold) for answer, gold, equal, _ in PAIRS if equal]
    if suite is not None:
        benchmarks = load_benchmarks(str(suite))
        pairs += [(text, text) for problems in benchmarks.values() for one in problems for text in one.answers]
    made = list(mutants(pairs, count, seed))
    grader = Grader(workers=workers)
    start = time.perf_counter()
    verdicts = grader.grade_many([(f"<answer>{mutant}</answer>", gold) for _, mutant, gold, _ in made], "tags")
    seconds = time.perf_counter() - start
    grader.close()
    total, accepted = Counter(kind for kind, *_ in made), Counter()
    for (kind, mutant, gold, answer), verdict in zip(made, verdicts, strict=True):
        if verdict.correct:
            accepted[kind] += 1
            console.print(f"{kind}: {mutant}   accepted for   {gold}   (made of {answer})", markup=False)
    table = Table(
        "change", "wrong answers", "accepted", title=f"{len(made)} mutants of {len(pairs)} pairs, {seconds:.0f} s"
    )
    for kind in MUTATIONS:
        table.add_row(kind, str(total[kind]), str(accepted[kind]))
    table.add_row("all", str(total.total()), str(accepted.total()))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
