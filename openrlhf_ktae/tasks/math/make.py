"""What ``openrlhf-ktae data`` does: read, choose, render, write, and say what was left out."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openrlhf_ktae.tasks.math.benchmarks import load_benchmarks
from openrlhf_ktae.tasks.math.presets import preset
from openrlhf_ktae.tasks.math.prompts import PromptSet, benchmark_prompts, make_prompts
from openrlhf_ktae.tasks.math.sources import read_source
from openrlhf_ktae.tasks.prompt_set import PromptRow, write_prompts
from openrlhf_ktae.tasks.templates import Template, template


@dataclass(frozen=True)
class DataOptions:
    """Everything the command line says; what each option means: ``openrlhf-ktae data --help``."""

    output: Path
    source: str | None = None
    preset: str | None = None
    format: str | None = None
    problem_column: str = "problem"
    answer_column: str = "answer"
    split: str | None = None
    levels: str | None = None
    datasource: str | None = None
    template: str = "qwen_math"
    template_file: Path | None = None
    system: str | None = None
    tokenizer: str | None = None
    benchmarks: str | None = None
    sample: int | None = None
    holdout: int | None = None
    holdout_output: Path | None = None
    seed: int = 0
    skip_unreadable: bool = False


def parse_levels(text: str) -> range:
    """``"3-5"`` or ``"5"`` as a range of MATH levels."""
    match = re.fullmatch(r"([1-5])(?:-([1-5]))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise ValueError(f"levels: got {text!r}, expected one level from 1 to 5, or a range such as 3-5")
    return range(first, last + 1)


def make_prompt_set(options: DataOptions) -> str:
    """Writes the prompt set; a sentence about what is in it and what was left out.

    Raises:
        ValueError: options, a source or a template that cannot be used.
    """
    options = _with_preset(options)
    if bool(options.holdout) != bool(options.holdout_output):
        raise ValueError("holdout: give both, the number with --holdout and the file with --holdout-output")
    asked_with = _template(options)
    tokenizer = _load_tokenizer(options.tokenizer)
    benchmarks = None if options.benchmarks is None else load_benchmarks(options.benchmarks)
    if options.source is None:
        if benchmarks is None:
            raise ValueError(
                "nothing to write: give --source or --preset for a training set, --benchmarks for an evaluation set"
            )
        rows = benchmark_prompts(benchmarks, asked_with, tokenizer)
        write_prompts(rows, options.output)
        return f"{options.output}: {len(rows)} problems of {', '.join(benchmarks)}"
    wanted = None if options.levels is None else parse_levels(options.levels)
    read = read_source(
        options.source,
        options.format or "columns",  # pyright: ignore[reportArgumentType]
        options.problem_column,
        options.answer_column,
        options.split or "train",
        options.skip_unreadable,
    )
    name = options.datasource or options.format or "columns"
    made = make_prompts(read.rows, asked_with, name, wanted, benchmarks, tokenizer)
    rows, held_out = choose(made.rows, options.sample, options.holdout or 0, options.seed)
    write_prompts(rows, options.output)
    if options.holdout_output:
        write_prompts(held_out, options.holdout_output)
    return _report(options, made, len(rows), len(held_out), read.skipped)


def _with_preset(options: DataOptions) -> DataOptions:
    """The preset's values where the command line says none."""
    if options.preset is None:
        return options
    chosen = preset(options.preset)
    if options.format not in (None, chosen.format):
        raise ValueError(f"format: got {options.format}, preset {options.preset} is {chosen.format}; leave it out")
    return replace(
        options,
        source=options.source or chosen.source,
        format=chosen.format,
        split=options.split or chosen.split,
        levels=options.levels or chosen.levels,
        datasource=options.datasource or options.preset,
    )


def _template(options: DataOptions) -> Template:
    chosen = template(options.template)
    if options.template_file is not None:
        text = options.template_file.read_text(encoding="utf-8")
        if "{q}" not in text:
            raise ValueError(f"template-file: {options.template_file} holds no {{q}}, where the problem goes")
        return Template(options.template_file.stem, text, source=str(options.template_file))
    if options.system is None:
        return chosen
    if not chosen.uses_chat_template:
        raise ValueError(
            f"system: template {chosen.name!r} is a whole text; use --template chat or chat_boxed with --tokenizer, or "
            "write the text with --template-file"
        )
    return replace(chosen, system=options.system)


def choose(
    rows: Sequence[PromptRow], sample: int | None, holdout: int, seed: int
) -> tuple[list[PromptRow], list[PromptRow]]:
    """A random sample of the rows and a held-out set apart from it, both in the source's order.

    The held-out set depends on its size and the seed alone, so that sets of several sizes share it.

    Raises:
        ValueError: more rows are asked for than there are.
    """
    asked = holdout + (sample or 1)
    if min(holdout, sample or 0) < 0 or sample == 0 or asked > len(rows):
        raise ValueError(
            f"sample, holdout: got {sample or 'all the rest'} and {holdout}, of {len(rows)} rows; ask for fewer, and "
            "for at least one"
        )
    rng = random.Random(seed)
    order = rng.sample(range(len(rows)), len(rows))
    held_out, kept = order[:holdout], order[holdout:][:sample]
    return [rows[i] for i in sorted(kept)], [rows[i] for i in sorted(held_out)]


def _report(options: DataOptions, made: PromptSet, kept: int, held_out: int, skipped: int) -> str:
    parts = [f"{options.output}: {kept} prompts of {made.read + skipped} rows"]
    if skipped:
        parts.append(f"{skipped} skipped without a problem or an answer")
    parts += [f"{made.other_level} of another level", f"{made.duplicates} duplicates"]
    if made.contaminated:
        found = ", ".join(f"{task} {count}" for task, count in made.contaminated.items())
        parts.append(f"{sum(made.contaminated.values())} removed because a benchmark has them ({found})")
    else:
        parts.append("not checked against the benchmarks (give --benchmarks)")
    if options.holdout_output:
        parts.append(f"{held_out} held out in {options.holdout_output}")
    if options.sample:
        parts.append(f"sampled with seed {options.seed}")
    return "; ".join(parts)


def _load_tokenizer(name: str | None) -> Any:
    if name is None:
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)
