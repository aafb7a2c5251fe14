"""One self-contained HTML page of one run or several, made from the files the runs left behind."""

from pathlib import Path

__all__ = ["write_report"]


def write_report(run_dirs: list[Path], output: Path | None = None) -> Path:
    """Write the page of `run_dirs` (several are overlaid) and return its path.

    `output` defaults to `report.html` in the first run folder. Damaged or missing parts are named on the page; a
    folder that does not exist raises ValueError.
    """
    from openrlhf_ktae.report.page import write_page

    return write_page(run_dirs, output)
