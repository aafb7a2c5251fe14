"""The ``data`` command."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer


def data(
    output: Annotated[Path, typer.Argument(help="JSON-lines file to write (input, label, datasource).")],
    source: Annotated[
        str | None, typer.Option(help="Problems: .jsonl, .json, .csv, .parquet, a folder of them or OWNER/NAME@COMMIT.")
    ] = None,
    format: Annotated[str, typer.Option(help="Shape of the source: columns, math, gsm8k or dapo.")] = "columns",
    problem_column: Annotated[str, typer.Option(help="Column of the problem (format columns).")] = "problem",
    answer_column: Annotated[str, typer.Option(help="Column of the answer (format columns).")] = "answer",
    split: Annotated[
        str, typer.Option(help="Of a folder: the files whose path names this split or none; all: every file.")
    ] = "train",
    levels: Annotated[str | None, typer.Option(help="MATH levels to keep, such as 3-5 or 5.")] = None,
    datasource: Annotated[str | None, typer.Option(help="Name of the set in metrics; default: the format.")] = None,
    template: Annotated[str, typer.Option(help="Prompt template, by name.")] = "qwen_math",
    tokenizer: Annotated[str | None, typer.Option(help="Model whose chat template the chat templates use.")] = None,
    benchmarks: Annotated[
        str | None,
        typer.Option(help="Benchmark suite (folder or OWNER/NAME@COMMIT). With --source: its problems are taken out. "
                     "Without: it is written as an evaluation set."),
    ] = None,
) -> None:  # fmt: skip
    """Make an OpenRLHF prompt set: from a problem source, or from the benchmarks for evaluation during training."""
    from rich.console import Console

    try:
        report = _make(
            output,
            source,
            format,
            problem_column,
            answer_column,
            split,
            levels,
            datasource,
            template,
            tokenizer,
            benchmarks,
        )
    except ValueError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    Console(soft_wrap=True).print(report, markup=False)


def parse_levels(text: str) -> range:
    """``"3-5"`` or ``"5"`` as a range of MATH levels."""
    match = re.fullmatch(r"([1-5])(?:-([1-5]))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise ValueError(f"levels: got {text!r}, expected one level from 1 to 5, or a range such as 3-5")
    return range(first, last + 1)


def _make(
    output: Path,
    source: str | None,
    format: str,
    problem_column: str,
    answer_column: str,
    split: str,
    levels: str | None,
    datasource: str | None,
    template_name: str,
    tokenizer_name: str | None,
    benchmarks_path: str | None,
) -> str:
    from openrlhf_ktae.tasks.math.benchmarks import load_benchmarks
    from openrlhf_ktae.tasks.math.prompts import benchmark_prompts, make_prompts
    from openrlhf_ktae.tasks.math.sources import read_source
    from openrlhf_ktae.tasks.prompt_set import write_prompts
    from openrlhf_ktae.tasks.templates import template as find_template

    template = find_template(template_name)
    tokenizer = _load_tokenizer(tokenizer_name)
    benchmarks = None if benchmarks_path is None else load_benchmarks(benchmarks_path)
    if source is None:
        if benchmarks is None:
            raise ValueError("nothing to write: give --source for a training set, --benchmarks for an evaluation set")
        rows = benchmark_prompts(benchmarks, template, tokenizer)
        write_prompts(rows, output)
        return f"{output}: {len(rows)} problems of {', '.join(benchmarks)}"
    wanted = None if levels is None else parse_levels(levels)
    read = read_source(source, format, problem_column, answer_column, split)  # pyright: ignore[reportArgumentType]
    made = make_prompts(read, template, datasource or format, wanted, benchmarks, tokenizer)
    write_prompts(made.rows, output)
    if benchmarks is None:
        overlap = "not checked against the benchmarks (give --benchmarks)"
    else:
        found = ", ".join(f"{task} {count}" for task, count in made.contaminated.items())
        overlap = f"{sum(made.contaminated.values())} removed because a benchmark has them ({found})"
    return (
        f"{output}: {len(made.rows)} prompts of {made.read} rows; {made.other_level} of another level; "
        f"{made.duplicates} duplicates; {overlap}"
    )


def _load_tokenizer(name: str | None) -> Any:
    if name is None:
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)
