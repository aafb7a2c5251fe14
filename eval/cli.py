"""The command line: ``python -m eval run | grade | compare``. Every command imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from eval.options import RunOptions

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="How good is this checkpoint, against what, and is the difference real?",
)


@app.command(context_settings={"allow_extra_args": True})
def run(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Model folder or Hub id; with --base-url the name the server gives it.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder of the evaluation; runs/evaluation/<model> if not given.")
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            envvar="OPENRLHF_KTAE_EVALUATION_SUITE",
            help="The benchmark suite: a save_to_disk folder, or owner/name@commit of the Hub.",
        ),
    ] = "data/evaluation_suite",
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="Benchmarks, separated by spaces or commas; the default suite if not given."),
    ] = None,
    benchmark: Annotated[
        list[Path] | None, typer.Option(help="YAML file of a benchmark of your own; may be given several times.")
    ] = None,
    template: Annotated[str, typer.Option(help="Prompt template; see docs/evaluation.md.")] = RunOptions.template,
    answer_style: Annotated[
        str | None,
        typer.Option(
            help="Where the answer stands: boxed, tags, hash or auto; where the template asks for it if not given."
        ),
    ] = RunOptions.answer_style,
    limit: Annotated[
        int | None, typer.Option(help="Only so many problems of each benchmark (a partial result).")
    ] = RunOptions.limit,
    n: Annotated[int, typer.Option(help="Samples per problem.")] = RunOptions.n,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.")] = RunOptions.temperature,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = RunOptions.top_p,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of a response.")] = RunOptions.max_tokens,
    max_model_len: Annotated[int, typer.Option(help="Most tokens of prompt and response.")] = RunOptions.max_model_len,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = RunOptions.seed,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer folder or Hub id; the model's if not given.")
    ] = RunOptions.tokenizer,
    revision: Annotated[str | None, typer.Option(help="Commit of a Hub model.")] = RunOptions.revision,
    dtype: Annotated[str, typer.Option(help="Precision of the weights.")] = RunOptions.dtype,
    engines: Annotated[
        int | None, typer.Option(help="vLLM engines as Ray actors; one in this process if not given.")
    ] = RunOptions.engines,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster of the engines, e.g. auto; RAY_ADDRESS, else a new one.")
    ] = RunOptions.address,
    base_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server, e.g. http://host:8000/v1.")
    ] = RunOptions.base_url,
    concurrency: Annotated[int, typer.Option(help="Samples asked of the server at a time.")] = RunOptions.concurrency,
    tensor_parallel: Annotated[int, typer.Option(help="GPUs of one engine.")] = RunOptions.tensor_parallel,
    gpu_memory_utilization: Annotated[
        float, typer.Option(help="Share of the GPU's memory for vLLM.")
    ] = RunOptions.gpu_memory_utilization,
    max_num_seqs: Annotated[
        int | None,
        typer.Option(
            help="Most responses an engine generates at once; on a GPU what its key-value cache holds if not given."
        ),
    ] = RunOptions.max_num_seqs,
    kv_cache_mib: Annotated[
        int | None, typer.Option(help="Key-value cache in MiB; vLLM's choice on GPU, 256 on CPU if not given.")
    ] = RunOptions.kv_cache_mib,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model or the tokenizer brings.")
    ] = RunOptions.trust_remote_code,
) -> None:
    """Evaluate a model. Called again, it goes on where it stopped; a finished evaluation is only shown."""
    from rich.console import Console

    from eval.progress import GradingProgress
    from eval.run import run as run_evaluation
    from eval.show import print_results

    console = Console()
    names = _split(tasks, context.args)
    folder = output or Path("runs/evaluation") / Path(model).name
    options = RunOptions(
        model=model,
        data=data,
        output=folder,
        tasks=names,
        benchmarks=benchmark or [],
        template=template,
        answer_style=answer_style,  # type: ignore[arg-type]
        limit=limit,
        n=n,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        max_model_len=max_model_len,
        seed=seed,
        tokenizer=tokenizer,
        revision=revision,
        dtype=dtype,
        engines=engines,
        address=address,
        base_url=base_url,
        concurrency=concurrency,
        tensor_parallel=tensor_parallel,
        gpu_memory_utilization=gpu_memory_utilization,
        max_num_seqs=max_num_seqs,
        kv_cache_mib=kv_cache_mib,
        trust_remote_code=trust_remote_code,
    )
    with _clear_errors(folder), GradingProgress(console) as progress:
        results = run_evaluation(options, progress, lambda text: print(f"warning: {text}", file=sys.stderr))
    print_results(results, console)
    console.print(f"[dim]{folder}/results.json[/]", highlight=False)


def _split(names: list[str] | None, others: list[str]) -> list[str] | None:
    """Names of tasks: ``--tasks aime,amc`` and ``--tasks aime amc``; what follows the first one comes in ``others``."""
    if not names:
        if others:
            raise typer.BadParameter(f"unexpected {' '.join(others)}")
        return None
    names = [*names, *others]
    return [part.strip() for name in names for part in name.split(",") if part.strip()]


@app.command()
def grade(
    file: Annotated[
        Path,
        typer.Argument(
            help="Answers as JSON lines, JSON or Parquet: outputs.jsonl, or a file of lm-evaluation-harness, "
            "lighteval, OpenCompass or somebody else."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the verdicts; <file>_graded beside the file if not given.")
    ] = None,
    answer_style: Annotated[
        str | None,
        typer.Option(help="Where the answer stands: boxed, tags, hash or auto; that of the templates, or boxed."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at an unreadable record; otherwise it is left out and named.")
    ] = False,
) -> None:
    """Grade answers that are there already; no model is needed."""
    from rich.console import Console

    from eval.grading import grade_file
    from eval.progress import GradingProgress
    from eval.show import print_results

    console = Console()
    with _clear_errors(), GradingProgress(console) as progress:
        if not file.is_file():
            raise ValueError(f"{file}: no such file")
        folder = output or file.with_name(f"{file.stem}_graded")
        unreadable: list[str] = []
        results = grade_file(
            file,
            folder,
            answer_style,  # type: ignore[arg-type]
            progress.graded,
            progress.start,
            None if strict else unreadable.append,
        )
    _warn_of(unreadable, file)
    print_results(results, console)
    console.print(f"[dim]{folder}/results.json[/]", highlight=False)


def _warn_of(unreadable: list[str], file: Path) -> None:
    for record in unreadable[:10]:
        print(f"warning: left out: {record}", file=sys.stderr)
    if unreadable:
        print(f"warning: {len(unreadable)} records of {file} cannot be read", file=sys.stderr)


@app.command()
def compare(
    results: Annotated[list[str], typer.Argument(help="Result folders, or models of the published table.")],
    markdown: Annotated[Path | None, typer.Option(help="Also write the tables as Markdown to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with tables and plots to this file.")] = None,
) -> None:
    """Compare results with the first one: intervals, paired differences, lengths."""
    from rich.console import Console

    from eval.compare import compare as compare_results
    from eval.show import comparison_markdown, print_comparison

    console = Console()
    with _clear_errors():
        comparison = compare_results(results)
        print_comparison(comparison, console)
        if markdown:
            markdown.write_text(comparison_markdown(comparison), encoding="utf-8")
        if html:
            from eval.page import write_page

            write_page(comparison, html)


class _clear_errors:
    """Ends the program with the message of an error alone: it names what was wrong and the way out."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from openrlhf_ktae.generation import BackendError

        if isinstance(error, BackendError | KeyboardInterrupt):
            print(f"error: {str(error) or 'interrupted'}", file=sys.stderr)
            if self._folder is not None:
                print(
                    f"What was generated is kept in {self._folder}; the same command goes on from there.",
                    file=sys.stderr,
                )
            raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 1) from None
        if isinstance(error, ValueError | OSError):
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
