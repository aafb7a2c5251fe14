"""Put readers and views together into the page, and write it so that a reader never sees half a file."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from openrlhf_ktae.files import replacing
from openrlhf_ktae.report.bundle import (
    Selection,
    own_script,
    own_style,
    pack,
    packed_plotly,
    security_policy,
    select_groups,
)
from openrlhf_ktae.report.curves import curve_panels
from openrlhf_ktae.report.groups import VALUE_BOUNDS, find_wanted
from openrlhf_ktae.report.health import check_health
from openrlhf_ktae.report.overview import overview, shown_steps
from openrlhf_ktae.report.run_folder import Run, input_times, read_run
from openrlhf_ktae.report.seed_groups import find_cohorts, run_labels
from openrlhf_ktae.report.summary import describe

SIZE_LIMIT = 5_000_000
"""Bytes of the whole page; key-token maps take what the rest leaves."""


def write_page(
    run_dirs: Sequence[Path],
    output: Path | None = None,
    groups: Sequence[tuple[int, int]] = (),
    size_limit: int = SIZE_LIMIT,
    reload_seconds: int = 0,
) -> Path:
    """Read the runs, write the page to `output` (default: report.html in the first folder), return its path."""
    if not run_dirs:
        raise ValueError("run_dirs: empty, expected at least one run folder")
    runs = [read_run(Path(path)) for path in run_dirs]
    find_wanted(runs, groups)
    output = Path(output) if output else Path(run_dirs[0]) / "report.html"
    page = make_page(runs, groups, size_limit, reload_seconds)
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as part:
        part.write_text(page, encoding="utf-8", errors="replace")
    return output


def make_page(
    runs: Sequence[Run], groups: Sequence[tuple[int, int]] = (), size_limit: int = SIZE_LIMIT, reload_seconds: int = 0
) -> str:
    """The page as one HTML text. `groups` (step, group) are embedded whatever their size."""
    cohorts, labels = find_cohorts(runs), run_labels(runs)
    curves = {"cohorts": [cohort.label for cohort in cohorts], "panels": curve_panels(runs, cohorts)}
    notes: dict[int, list[str]] = {i: list(run.missing) for i, run in enumerate(runs)}
    overviews = [_overview(run, notes[i]) for i, run in enumerate(runs)]
    context: dict[str, Any] = {
        "title": labels[0] if len(runs) == 1 else f"{len(runs)} runs",
        "policy": security_policy(),
        "style": own_style(),
        "script": own_script(),
        "plotly": packed_plotly(),
        "curves": pack(curves),
        "overview": pack(
            [{key: view[key] for key in ("shares", "positive", "negative", "drawn")} for view in overviews]
        ),
        "written_at": datetime.now(timezone.utc).strftime("%d %b %Y, %H:%M UTC"),
        "reload_seconds": reload_seconds if any(run.status == "running" for run in runs) else 0,
        "has_curves": bool(curves["panels"]),
    }
    described = [describe(run, label) for run, label in zip(runs, labels, strict=True)]
    for i, run in enumerate(runs):
        described[i] |= {"findings": [asdict(finding) for finding in check_health(run)], "overview": overviews[i]}
    context |= {"runs": described, "selection": Selection([], 0, {}), "index": pack([])}
    template = environment().get_template("report.html.j2")
    empty = template.render(context | {"notes": notes})
    # What the page weighs without maps is known only now; 4 kB stay free for notes on damaged rollouts.
    budget = max(0, size_limit - len(empty.encode("utf-8", "replace")) - 4096)
    selection = select_groups(runs, budget, groups)
    for i, sentences in selection.notes.items():
        notes[i] += sentences
    places = [
        {
            "run": g.run,
            "step": g.summary.step,
            "group": g.summary.group,
            "size": g.summary.size,
            "correct": g.summary.correct,
            "key_share": g.key_share,
            "prompt": " ".join(g.prompt.split())[-90:],
        }
        for g in selection.groups
    ]
    index = {
        "runs": [{"label": label, "scale": run.scale} for run, label in zip(runs, labels, strict=True)],
        "groups": places,
        "bounds": VALUE_BOUNDS,
    }
    context |= {"selection": selection, "index": pack(index), "notes": notes}
    return template.render(context)


def watch(
    write: Callable[[], Path], run_dirs: Sequence[Path], seconds: float, still_running: Callable[[], bool]
) -> None:
    """Call `write` whenever a file of the runs has changed, until `still_running` says no."""
    written: dict[str, float] | None = None
    while True:
        is_running = still_running()
        now = {name: at for path in run_dirs for name, at in input_times(Path(path)).items()}
        if now != written:
            write()
            written = now
        if not is_running:
            return
        time.sleep(seconds)


def _overview(run: Run, notes: list[str]) -> dict[str, Any]:
    """The run's overview; without its token part, and with a note, where a token file turns out to be damaged."""
    try:
        shown = shown_steps(run)
        if len(shown) < len(run.token_files):
            notes.append(
                f"The tokens over the run are those of {len(shown)} of {len(run.token_files)} logged steps, evenly "
                f"spread: {', '.join(map(str, shown))}."
            )
        return overview(run)
    except (pa.ArrowInvalid, OSError, KeyError, TypeError) as error:
        message = (str(error).splitlines() or ["no message"])[0][:90]
        notes.append(f"rollouts/*_tokens.parquet cannot be read ({message}): no tokens over the run.")
        return overview(replace(run, token_files={}))


def environment() -> Environment:
    """The templates, with everything escaped that is not said to be markup."""
    loader = FileSystemLoader(Path(__file__).parent / "page")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
