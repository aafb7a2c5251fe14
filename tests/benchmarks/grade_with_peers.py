"""This grader beside others on the yardstick and on math-verify's own test pairs. Start it with --help.

The others are math-verify and TRL as installed, and what checkouts are given: the KTAE authors' grader and verl's
reward functions. Their code is run from there and is no part of this project.
"""

import ast
import contextlib
import importlib.util
import logging
import multiprocessing
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "support"), str(Path(__file__).resolve().parents[2])]

from answer_pairs import PAIRS  # noqa: E402
from yardstick import Pair, read_pairs  # noqa: E402

from openrlhf_ktae.reward.answer import find_answer  # noqa: E402
from openrlhf_ktae.reward.grading import Grader  # noqa: E402

Judge = Callable[[str, str], bool]
"""Whether a response (with its box) answers the reference, by one grader."""

SECONDS_FOR_A_PAIR = 20.0
console = Console(width=max(150, Console().width))


def _math_verify() -> Judge:
    from math_verify import parse, verify

    return lambda response, gold: bool(verify(parse(f"${gold}$"), parse(response)))


def _trl() -> Judge:
    from trl.rewards import accuracy_reward

    def judge(response: str, gold: str) -> bool:
        return accuracy_reward([[{"role": "assistant", "content": response}]], [f"${gold}$"])[0] == 1.0

    return judge


def _ktae(checkout: Path) -> Judge:
    grader = _module(checkout / "eval/math_eval/math_grader.py")
    return lambda response, gold: grader.boxed_reward_fn(response, gold, fast=False)[1] == 1.0


def _verl(checkout: Path, name: str) -> Judge:
    module = _module(checkout / f"verl/utils/reward_score/{name}.py")

    def judge(response: str, gold: str) -> bool:
        score = module.compute_score(response, gold)
        return (score["acc"] if isinstance(score, dict) else score) in (1, 1.0, True)

    return judge


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise typer.BadParameter(f"{path}: no such file; give the folder of a checkout")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _judge_all(make: Callable[[], Judge], pairs: list[tuple[str, str]], verdicts: Any) -> None:
    """Runs in a process of its own: a peer may print, hang, or set signals."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    logging.disable(logging.CRITICAL)
    judge = make()

    def stop(*_: object) -> None:
        raise TimeoutError

    # Of processor time: math-verify uses the other alarm clock itself.
    signal.signal(signal.SIGVTALRM, stop)
    found = []
    for response, gold in pairs:
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_FOR_A_PAIR)
        verdict = False
        with contextlib.suppress(Exception):  # what a grader raises is a refusal
            verdict = bool(judge(response, gold))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        found.append(verdict)
    verdicts.put(found)


def verdicts_of(make: Callable[[], Judge], pairs: list[tuple[str, str]]) -> list[bool]:
    """The verdicts of one peer on (response, reference) pairs; all of them wrong where it cannot be started."""
    context = multiprocessing.get_context("fork")
    verdicts = context.Queue()
    process = context.Process(target=_judge_all, args=(make, pairs, verdicts))
    process.start()
    while process.is_alive() or not verdicts.empty():
        with contextlib.suppress(Exception):
            found = verdicts.get(timeout=1)
            process.join()
            return found
    raise typer.BadParameter("a peer ended without verdicts; run it alone to see why")


def our_verdicts(pairs: list[tuple[str, str]]) -> list[bool]:
    """This grader's verdicts, with its workers and its deadline."""
    grader = Grader()
    found = [verdict.correct for verdict in grader.grade_many(pairs)]
    grader.close()
    return found


def suite_pairs(checkout: Path) -> Iterator[Pair]:
    """The (answer, reference, verdict) triples of math-verify's tests, by test function; only those written out."""
    for path in sorted((checkout / "tests").glob("test_*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for decorator in function.decorator_list:
                    yield from _triples(function.name, decorator)


def _triples(name: str, decorator: ast.expr) -> Iterator[Pair]:
    if not isinstance(decorator, ast.Call) or len(decorator.args) < 2 or not isinstance(decorator.args[1], ast.List):
        return
    with contextlib.suppress(ValueError):
        columns = [column.strip() for column in ast.literal_eval(decorator.args[0]).split(",")]
        verdict = "expected" if "expected" in columns else "result"
        if {"gold", "pred", verdict} <= set(columns):
            for element in decorator.args[1].elts:
                with contextlib.suppress(ValueError):
                    row = dict(zip(columns, ast.literal_eval(element), strict=True))
                    yield Pair(name, row["pred"], row["gold"], bool(row[verdict]))


def _reference(gold: str) -> str:
    """A reference of math-verify's tests without what is around it."""
    boxed = find_answer(gold, "boxed")
    return boxed.text if boxed.formatted else gold.strip().strip("$").strip()


def _response(text: str) -> str:
    """A response with a box: the tests often write the bare formula."""
    if "\\boxed" in text:
        return text
    formulas = re.findall(r"\$\$?(.+?)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", text, re.DOTALL)
    last = next((part for part in reversed(formulas[-1]) if part), text) if formulas else text
    return rf"\boxed{{{last.strip()}}}"


def report(title: str, pairs: list[Pair], judged: dict[str, list[bool]], shows: bool) -> None:
    """Prints right verdicts by kind, wrong acceptances, and, if asked, each pair this grader judges otherwise."""
    total = Counter(pair.kind for pair in pairs)
    right = {
        name: Counter(p.kind for p, v in zip(pairs, found, strict=True) if v == p.equal)
        for name, found in judged.items()
    }
    table = Table("kind", "pairs", *judged, title=title)
    for kind, count in total.items():
        table.add_row(kind, str(count), *(str(right[name][kind]) for name in judged))
    table.add_section()
    table.add_row("all", str(len(pairs)), *(str(right[name].total()) for name in judged))
    accepted = {
        name: sum(v and not p.equal for p, v in zip(pairs, found, strict=True)) for name, found in judged.items()
    }
    table.add_row("wrong ones accepted", str(sum(not pair.equal for pair in pairs)), *map(str, accepted.values()))
    console.print(table)
    if shows:
        for pair, verdict in zip(pairs, judged["this grader"], strict=True):
            if verdict != pair.equal:
                texts = f"{pair.answer[-90:]!r} against {pair.gold[-90:]!r}"
                console.print(f"{pair.kind}: {texts}, expected {pair.equal}", markup=False)


def main(
    ktae: Annotated[Path | None, typer.Option(help="Checkout of the KTAE authors' repository.")] = None,
    verl: Annotated[Path | None, typer.Option(help="Checkout of verl.")] = None,
    math_verify: Annotated[Path | None, typer.Option(help="Checkout of math-verify, for its test pairs.")] = None,
) -> None:
    """Print right verdicts by kind, for this grader and its peers."""
    peers: dict[str, Callable[[], Judge]] = {"math-verify": _math_verify, "TRL": _trl}
    if ktae is not None:
        peers["KTAE authors"] = lambda: _ktae(ktae)
    if verl is not None:
        for name in ("math_reward", "math_dapo", "math_verify"):
            peers[f"verl {name}"] = lambda name=name: _verl(verl, name)
    tables = {
        "References of training sets": read_pairs(),
        "Answers of benchmarks": [Pair(trap, answer, gold, equal) for answer, gold, equal, trap in PAIRS],
    }
    for title, pairs in tables.items():
        asked = [(rf"\boxed{{{pair.answer}}}", pair.gold) for pair in pairs]
        ours = {"this grader": our_verdicts(asked)}
        report(title, pairs, ours | {name: verdicts_of(make, asked) for name, make in peers.items()}, shows=True)
    if math_verify is not None:
        pairs = list(suite_pairs(math_verify))
        ours = our_verdicts([(_response(pair.answer), _reference(pair.gold)) for pair in pairs])
        report("math-verify's own tests", pairs, {"this grader": ours}, shows=True)


if __name__ == "__main__":
    typer.run(main)
