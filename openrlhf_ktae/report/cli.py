"""The `report` command. Imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

GROUP_HELP = "STEP:GROUP whose key-token map the page must hold (or --export draws); may be given several times."


def report(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN_DIR...", help="Run folders; several are overlaid. Or one folder of a sweep."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="The page; by default report.html in the first folder. A sweep's tables go to a folder of its name."
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Rewrite the page as the run goes on, until it ends.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks with --watch.")] = 20.0,
    group: Annotated[list[str] | None, typer.Option("--group", metavar="STEP:GROUP", help=GROUP_HELP)] = None,
    size_limit: Annotated[float, typer.Option(min=2.5, help="Size of the page in MB; maps take what is left.")] = 5.0,
    export: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write every plot and map as PNG and SVG instead of a page.")
    ] = None,
) -> None:
    """One self-contained page of a run or several: health, curves, key-token maps, groups."""
    from rich.console import Console

    from openrlhf_ktae.report.page import watch as watch_runs
    from openrlhf_ktae.report.page import write_page
    from openrlhf_ktae.report.run_folder import run_status
    from openrlhf_ktae.report.sweep_page import is_sweep, write_sweep_page

    console = Console(highlight=False, soft_wrap=True)
    try:
        groups = [parse_group(text) for text in group or []]
        if len(run_dirs) == 1 and is_sweep(run_dirs[0]):
            for option, given in (("--watch", watch), ("--group", groups), ("--export", export)):
                if given:
                    raise ValueError(f"{option}: for runs; a sweep's figures and tables are written with its page")
            page, *others = write_sweep_page(run_dirs[0], output)
            console.print(f"{page}, with {', '.join(file.name for file in others)}")
            return
        if export is not None:
            from openrlhf_ktae.report.export import export_figures

            files = export_figures(run_dirs, export, groups)
            console.print(f"{len(files)} figures in {export}")
            return

        def write() -> Path:
            page = write_page(run_dirs, output, groups, int(size_limit * 1e6), round(every) if watch else 0)
            console.print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
            return page

        if watch:
            watch_runs(write, run_dirs, every, lambda: any(run_status(path) == "running" for path in run_dirs))
        else:
            write()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except KeyboardInterrupt:
        console.print("Stopped watching.")


def parse_group(text: str) -> tuple[int, int]:
    """(step, group) of "STEP:GROUP"; ValueError for anything else."""
    step, separator, group = text.partition(":")
    if not separator or not step.isdigit() or not group.isdigit():
        raise ValueError(f"--group {text}: expected STEP:GROUP, two numbers such as 120:3")
    return int(step), int(group)
