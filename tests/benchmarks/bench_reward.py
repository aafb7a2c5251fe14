"""The grader beside math-verify alone: verdicts on the table of pairs, and answers per second. Start it with --help."""

import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from math_verify import parse, verify
from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "support"), str(Path(__file__).resolve().parents[2])]

from answer_pairs import PAIRS  # noqa: E402
from grader_workers import worker_process_ids  # noqa: E402

from openrlhf_ktae.reward.equivalence import compare_cheaply  # noqa: E402
from openrlhf_ktae.reward.grading import Grader  # noqa: E402

console = Console(width=max(110, Console().width))


def math_verify_alone(answer: str, gold: str) -> bool:
    """math-verify as its documentation shows it: parse both, verify, its own timeouts on."""
    return verify(parse(f"${gold}$"), parse(rf"$\boxed{{{answer}}}$"))


def ordinary_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """(answer, reference) pairs as math benchmarks have them; half of the answers are off by a little.

    Kinds, as often as MATH-500 and OlympiadBench have them, roughly: integers 55 %, fractions and decimals 15 %,
    roots and multiples of pi 10 %, points, intervals and lists 10 %, expressions in a variable 10 %.
    """
    rng = random.Random(seed)
    pairs = []
    for number in range(count):
        a, b = rng.randint(2, 9999), rng.randint(2, 97)
        kind = rng.random()
        other = a + (number % 2)
        if kind < 0.55:
            pairs.append((str(other), str(a)))
        elif kind < 0.65:
            pairs.append((rf"\frac{{{other}}}{{{b}}}", rf"\dfrac{{{a}}}{{{b}}}"))
        elif kind < 0.70:
            pairs.append((f"{other / 8}", rf"\frac{{{a}}}{{8}}"))
        elif kind < 0.75:
            pairs.append((rf"{other}\sqrt{{{b}}}", rf"\sqrt{{{b}}}\cdot {a}"))
        elif kind < 0.80:
            pairs.append((rf"\frac{{{other}\pi}}{{{b}}}", rf"\frac{{{a}}}{{{b}}}\pi"))
        elif kind < 0.84:
            pairs.append((rf"({other}, -{b})", rf"\left({a},-{b}\right)"))
        elif kind < 0.87:
            pairs.append((rf"[{b}, {b + other})", rf"\left[{b},{b + a}\right)"))
        elif kind < 0.90:
            pairs.append((f"{b}, {other}", f"{a},{b}"))
        else:
            pairs.append((rf"({b}x+{other})(x-1)", rf"{b}x^2+{a - b}x-{a}"))
    return pairs


def verdict_table(grader: Grader) -> None:
    """Right verdicts by trap, ours and math-verify's."""
    verdicts = [v.correct for v in grader.grade_many([(rf"\boxed{{{answer}}}", gold) for answer, gold, _, _ in PAIRS])]
    total, ours, theirs = Counter(), Counter(), Counter()
    for (answer, gold, expected, trap), verdict in zip(PAIRS, verdicts, strict=True):
        total[trap] += 1
        ours[trap] += verdict == expected
        theirs[trap] += math_verify_alone(answer, gold) == expected
        if verdict != expected:
            console.print(f"wrong verdict: {answer!r} against {gold!r}, expected {expected}", markup=False)
    table = Table("trap", "pairs", "this grader", "math-verify alone", title="Right verdicts")
    for trap, count in total.items():
        table.add_row(trap, str(count), str(ours[trap]), str(theirs[trap]))
    table.add_section()
    table.add_row("all", str(total.total()), str(ours.total()), str(theirs.total()))
    console.print(table)


def throughput(workers: int, count: int, repeats: int) -> None:
    """Answers per second with warm workers and an empty cache, and math-verify one by one on the same answers."""
    table = Table("run", "this grader, answers/s", "math-verify, answers/s", "ratio", "without a worker", "agree")
    for repeat in range(repeats):
        pairs = ordinary_pairs(count, seed=repeat)
        cheap = sum(compare_cheaply(answer, gold) is not None for answer, gold in pairs)
        grader = Grader(workers=workers)  # new workers and an empty cache: nothing is remembered between runs
        grader.warm_up()
        math_verify_alone("1", "x^2")
        start = time.perf_counter()
        ours = grader.grade_many([(rf"\boxed{{{answer}}}", gold) for answer, gold in pairs])
        ours_seconds = time.perf_counter() - start
        grader.close()
        start = time.perf_counter()
        theirs = [math_verify_alone(answer, gold) for answer, gold in pairs]
        theirs_seconds = time.perf_counter() - start
        agree = sum(mine.correct == other for mine, other in zip(ours, theirs, strict=True))
        table.add_row(
            str(repeat + 1),
            f"{count / ours_seconds:,.0f}",
            f"{count / theirs_seconds:,.0f}",
            f"{theirs_seconds / ours_seconds:.1f}",
            f"{cheap / count:.0%}",
            f"{agree / count:.1%}",
        )
    table.title = f"{count} ordinary answers, {workers} workers"
    console.print(table)


def cheap_latency() -> None:
    """Time of one call of the reward function's path for an answer that needs no worker."""
    grader = Grader()
    pairs = [(rf"\boxed{{{n + n % 2}}}", str(n)) for n in range(2000)]
    start = time.perf_counter()
    for response, gold in pairs:
        grader.grade(response, gold)
    seconds = (time.perf_counter() - start) / len(pairs)
    console.print(
        f"one integer answer, uncached: {seconds * 1e3:.3f} ms; workers started: {worker_process_ids(grader)}"
    )


def main(
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 2,
    count: Annotated[int, typer.Option(help="Ordinary answers in a run.")] = 1000,
    repeats: Annotated[int, typer.Option(help="Runs, each with other answers.")] = 3,
) -> None:
    """Print the verdicts, the throughput and the latency of the grader."""
    grader = Grader(workers=workers)
    verdict_table(grader)
    grader.close()
    throughput(workers, count, repeats)
    cheap_latency()


if __name__ == "__main__":
    typer.run(main)
