"""The command line: ``python -m eval run | grade | compare``. Every command imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="How good is this checkpoint, against what, and is the difference real?",
)


@app.command()
def grade(
    file: Annotated[
        Path, typer.Argument(help="Answers as JSON lines or JSON: outputs.jsonl, or somebody else's file.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the verdicts; <file>_graded beside the file if not given.")
    ] = None,
    answer_style: Annotated[
        str | None,
        typer.Option(help="Where the answer stands: boxed, tags, hash or auto; that of the templates, or boxed."),
    ] = None,
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
        results = grade_file(file, folder, answer_style, progress.graded, progress.start)  # type: ignore[arg-type]
    print_results(results, console)
    console.print(f"[dim]{folder}/results.json[/]", highlight=False)


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
    """Ends the program with the message of a ValueError alone: it names what was wrong and the way out."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError | OSError):
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
