"""Plots and key-token maps as PNG and SVG for papers, with matplotlib and without a browser."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from openrlhf_ktae.report.bundle import key_share
from openrlhf_ktae.report.curves import curve_panels
from openrlhf_ktae.report.groups import find_wanted, list_groups, read_groups
from openrlhf_ktae.report.overview import overview
from openrlhf_ktae.report.run_folder import Run, read_run
from openrlhf_ktae.report.seed_groups import find_cohorts, run_labels
from openrlhf_ktae.report.token_figure import draw_map

COLOURS = ("#2f5bd0", "#c2540a", "#137a63", "#9a2f7c", "#7a6a00", "#55606e")
STYLES = ("-", "--", ":", "-.")
GROUP_COLOURS = (
    ("all correct", "all_correct", "#137a63"),
    ("mixed", "mixed", "#9db4ea"),
    ("all wrong", "all_wrong", "#b8401f"),
)


def export_figures(run_dirs: Sequence[Path], folder: Path, groups: Sequence[tuple[int, int]] = ()) -> list[Path]:
    """Write every plot of the page, and the maps of `groups` (step, group), into `folder`; return the files.

    Without `groups`, the map of each run is the group with most key tokens in the last step that has rollouts.
    ValueError for a run folder that does not exist or a group that was not written.
    """
    runs = [read_run(Path(path)) for path in run_dirs]
    maps = _wanted_maps(runs, groups)
    folder.mkdir(parents=True, exist_ok=True)
    cohorts, labels = find_cohorts(runs), run_labels(runs)
    files: list[Path] = []
    for panel in curve_panels(runs, cohorts):
        files += _save(draw_panel(panel, several=len(cohorts) > 1), folder, _file_name(panel))
    for run, label in zip(runs, labels, strict=True):
        suffix = f"-{label}" if len(runs) > 1 else ""
        view = overview(run)
        if view["shares"]:
            files += _save(draw_shares(view["shares"]), folder, f"groups{suffix}")
        if view["positive"] or view["negative"]:
            files += _save(draw_moves(view), folder, f"tokens-over-run{suffix}")
    for i, step, group in maps:
        view = read_groups(runs[i].rollout_files[step], runs[i].token_files.get(step), [group])[group]
        suffix = f"-{labels[i]}" if len(runs) > 1 else ""
        files += _save(draw_map(view, runs[i].scale), folder, f"map-step-{step}-group-{group}{suffix}")
    return files


def draw_panel(panel: dict[str, Any], several: bool) -> Figure:
    """One plot of the Curves view: raw values thin, their moving average bold, seeds as a band."""
    figure, axes = _figure(panel["title"], panel["unit"])
    seen: dict[int, int] = {}
    bottom: dict[int, float] = {}
    for line in panel["lines"]:
        order = seen.get(line["cohort"], 0)
        seen[line["cohort"]] = order + 1
        colour = COLOURS[(line["cohort"] if several and panel["kind"] != "stack" else order) % len(COLOURS)]
        style = STYLES[order % len(STYLES)] if several else "-"
        label = f"{line['run']}: {line['label']}" if several else line["label"]
        x, y = line["x"], [float("nan") if value is None else value for value in line["y"]]
        if panel["kind"] == "stack":
            heights = [0.0 if value is None else value for value in line["y"]]
            axes.bar(x, heights, width=1.0, bottom=[bottom.get(step, 0.0) for step in x], color=colour, label=label)
            bottom |= {step: bottom.get(step, 0.0) + height for step, height in zip(x, heights, strict=True)}
        elif panel["kind"] == "evaluation":
            errors = (
                [
                    [v - lo for v, lo in zip(y, line["low"], strict=True)],
                    [hi - v for v, hi in zip(y, line["high"], strict=True)],
                ]
                if "low" in line
                else None
            )
            axes.errorbar(
                x,
                y,
                yerr=errors,
                color=colour,
                ls=style,
                marker="os"[order % 2],
                ms=3.5,
                capsize=2,
                lw=1.4,
                label=label,
            )
        else:
            if "low" in line:
                axes.fill_between(x, line["low"], line["high"], color=colour, alpha=0.15, lw=0)
            for raw in line.get("seeds", [line]):
                values = [float("nan") if value is None else value for value in raw["y"]]
                axes.plot(
                    raw["x"], values, color=colour, alpha=0.45, lw=0.7, ls=style, marker="." if len(values) == 1 else ""
                )
            axes.plot(x, moving_average(line["y"]), color=colour, lw=1.6, ls=style, label=label)
    if panel["percent"]:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    if len(panel["lines"]) > 1:
        _legend(axes)
    return figure


def draw_shares(shares: dict[str, Any]) -> Figure:
    """Share of groups all correct, mixed, all wrong, stacked per step."""
    figure, axes = _figure("Groups by outcome", "share of groups")
    axes.stackplot(
        shares["x"],
        *[shares[key] for _, key, _ in GROUP_COLOURS],
        colors=[colour for _, _, colour in GROUP_COLOURS],
        labels=[label for label, _, _ in GROUP_COLOURS],
    )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    _legend(axes)
    return figure


def draw_moves(view: dict[str, Any]) -> Figure:
    """Mean key-token value of the top tokens at every step with rollouts."""
    figure, axes = _figure("How the top tokens move", "mean K")
    for side, style in (("positive", "-"), ("negative", "--")):
        for i, row in enumerate(view[side][: view["drawn"]]):
            name = row["token"].replace(" ", "·").replace("\n", "↵")
            axes.plot(
                row["x"],
                row["y"],
                color=COLOURS[i % len(COLOURS)],
                ls=style,
                marker="osD^v"[i % 5],
                ms=3,
                lw=1.2,
                label=name,
            )
    _legend(axes)
    return figure


def moving_average(values: Sequence[float | None], weight: float = 0.6) -> list[float]:
    """Exponential moving average as on the page, corrected for its start; a gap stays a gap (NaN)."""
    total = mass = 0.0
    averages = []
    for value in values:
        if value is None:
            averages.append(float("nan"))
            continue
        total, mass = weight * total + (1 - weight) * value, weight * mass + (1 - weight)
        averages.append(total / mass)
    return averages


def _wanted_maps(runs: Sequence[Run], groups: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(run, step, group) of the maps to draw."""
    if groups:
        return find_wanted(runs, groups)
    best = []
    for i, run in enumerate(runs):
        if run.rollout_files:
            step = max(run.rollout_files)
            summaries = sorted(list_groups(step, run.rollout_files[step]), key=lambda s: s.interest)[:16]
            views = read_groups(run.rollout_files[step], run.token_files.get(step), [s.group for s in summaries])
            best.append((i, step, max(views, key=lambda group: key_share(views[group], run.scale))))
    return best


def _file_name(panel: dict[str, Any]) -> str:
    """The panel's key; its title where the key is only a number (evaluation sets, metrics without a panel)."""
    return panel["title"] if panel["key"].startswith(("evaluation-", "other-")) else panel["key"]


def _figure(title: str, unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.set_xlabel("step", fontsize=8.5)
    axes.set_ylabel(unit, fontsize=8.5, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e5e5e0", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: Axes) -> None:
    legend = axes.legend(fontsize=7, frameon=False, ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a run's or a token's name may hold a dollar sign


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
    files = [folder / f"{stem}.png", folder / f"{stem}.svg"]
    # Hinting rounds a character's width to whole pixels, and a map's characters would leave their grid.
    with rc_context({"text.hinting": "none"}):
        figure.savefig(files[0], dpi=200)
    figure.savefig(files[1])
    return files
