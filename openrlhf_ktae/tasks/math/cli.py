"""The ``data`` command."""

from pathlib import Path
from typing import Annotated

import typer


def data(
    output: Annotated[Path, typer.Argument(help="JSON-lines file to write (input, label, datasource).")],
    source: Annotated[
        str | None, typer.Option(help="Problems: .jsonl, .json, .csv, .parquet, a folder of them or OWNER/NAME@COMMIT.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A public source by name (docs/data.md); --source then names a local copy of it.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Shape of the source: columns (the default), math, gsm8k or dapo.")
    ] = None,
    problem_column: Annotated[str, typer.Option(help="Column of the problem (format columns).")] = "problem",
    answer_column: Annotated[str, typer.Option(help="Column of the answer (format columns).")] = "answer",
    split: Annotated[
        str | None,
        typer.Option(help="Of a folder: files whose path names this split or none (default: train); all: every file."),
    ] = None,
    levels: Annotated[str | None, typer.Option(help="MATH levels to keep, such as 3-5 or 5.")] = None,
    datasource: Annotated[
        str | None, typer.Option(help="Name of the set in metrics; default: the preset or the format.")
    ] = None,
    template: Annotated[str, typer.Option(help="Prompt template, by name.")] = "qwen_math",
    template_file: Annotated[
        Path | None, typer.Option(help="File with a template of your own; {q} is the problem's place.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt, with the chat templates.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Model whose chat template the chat templates use.")] = None,
    benchmarks: Annotated[
        str | None,
        typer.Option(help="Benchmark suite (folder or OWNER/NAME@COMMIT). With a source: its problems are taken out. "
                     "Without: it is written as an evaluation set."),
    ] = None,
    sample: Annotated[int | None, typer.Option(help="Only so many prompts, at random.")] = None,
    holdout: Annotated[int | None, typer.Option(help="So many prompts go to --holdout-output instead.")] = None,
    holdout_output: Annotated[Path | None, typer.Option(help="Where the held-out prompts go.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of --sample and --holdout.")] = 0,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out rows without a problem or an answer, and count them.")
    ] = False,
    check_labels: Annotated[
        bool, typer.Option("--check-labels", help="Say how many references the grader can read, and which it cannot.")
    ] = False,
) -> None:  # fmt: skip
    """Make an OpenRLHF prompt set: from a problem source, or from the benchmarks for evaluation during training."""
    from rich.console import Console

    from openrlhf_ktae.tasks.math.make import DataOptions, make_prompt_set

    options = DataOptions(
        output=output,
        source=source,
        preset=preset,
        format=format,
        problem_column=problem_column,
        answer_column=answer_column,
        split=split,
        levels=levels,
        datasource=datasource,
        template=template,
        template_file=template_file,
        system=system,
        tokenizer=tokenizer,
        benchmarks=benchmarks,
        sample=sample,
        holdout=holdout,
        holdout_output=holdout_output,
        seed=seed,
        skip_unreadable=skip_unreadable,
    )
    try:
        report = make_prompt_set(options)
        if check_labels:
            from openrlhf_ktae.tasks.math.label_check import check_prompt_labels

            report += "\n" + check_prompt_labels(output)
    except (ValueError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    Console(soft_wrap=True).print(report, markup=False)
