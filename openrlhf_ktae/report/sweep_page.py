"""The page of a sweep: every setting's curves, tables and differences, in one file that needs no network."""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from openrlhf_ktae.files import replacing
from openrlhf_ktae.report.bundle import own_style, sha256
from openrlhf_ktae.report.page import environment
from openrlhf_ktae.report.sweep_figures import (
    STYLE,
    Curve,
    DifferenceRow,
    curve_figure,
    difference_figure,
    standalone,
    swatch,
)
from openrlhf_ktae.sweep.comparison import (
    MEASURES,
    ArmResult,
    Band,
    compare,
    reached_text,
    rows_of,
    unpaired,
    with_interval,
)
from openrlhf_ktae.sweep.folder import SweepFolder
from openrlhf_ktae.sweep.outcomes import Outcome, read_outcomes, write_csv, write_summary
from openrlhf_ktae.sweep.plan import SweepFile, combinations_of, planned_runs, value_labels
from openrlhf_ktae.sweep.tuning import CHOSEN_BY, Tuned

_DRAWN = ("area_under_curve", "accuracy_last", "response_tokens_last")
"""Measures whose differences have a figure."""


def is_sweep(folder: Path) -> bool:
    """Whether a folder is one that `openrlhf-ktae sweep` made."""
    return SweepFolder(folder).sweep_json.is_file()


def write_sweep_page(path: Path, output: Path | None = None) -> list[Path]:
    """Writes the page (by default report.html in the sweep's folder) and what it is made of; returns all files.

    In the sweep's folder, or in one named like ``output``: summary.csv (a row per run), curves.csv (a row per
    evaluation), comparison.csv and comparison.md, and figures/*.svg.
    """
    folder = SweepFolder(path)
    sweep, described = folder.read()
    outcomes = read_outcomes(folder, planned_runs(sweep, Path(described["file"]).parent))
    results = compare(outcomes, sweep)
    page, place = (output, output.with_suffix("")) if output else (path / "report.html", path)
    (place / "figures").mkdir(parents=True, exist_ok=True)
    files = [page, write_summary(outcomes, sweep, place / "summary.csv"), place / "curves.csv"]
    files.append(write_csv(rows_of(results), place / "comparison.csv"))
    files.append(_write(place / "comparison.md", markdown(results, sweep)))
    for name, figure in figures(results, sweep).items():
        files.append(_write(place / "figures" / f"{name}.svg", standalone(figure)))
    _write(page, make_page(path.resolve().name, sweep, described, outcomes, results))
    return files


def figures(results: Sequence[ArmResult], sweep: SweepFile) -> dict[str, str]:
    """Every figure by its file's name, setting by setting; those without a number are left out."""
    made = {}
    for setting in _settings(results):
        suffix = f"-{setting}" if setting else ""
        for name, figure in _figures(results, setting, sweep).items():
            made[f"{name}{suffix}"] = figure
    return made


def _figures(everything: Sequence[ArmResult], setting: str, sweep: SweepFile) -> dict[str, str]:
    places = {arm: place for place, arm in enumerate(sweep.arms)}
    results = [result for result in everything if result.setting == setting]
    accuracy = [Curve(result.arm, places[result.arm], result.accuracy) for result in results]
    tokens = [Curve(result.arm, places[result.arm], result.response_tokens) for result in results]
    made = {
        "values": _by_value(everything, results[0].tuned, sweep),
        "accuracy": curve_figure("Accuracy", "share of evaluation problems", accuracy, 3),
        "response_tokens": curve_figure("Response length", "tokens, evaluation problems", tokens, 1),
    }
    for measure in MEASURES:
        if measure.name in _DRAWN:
            rows = [
                DifferenceRow(result.arm, places[result.arm], result.differences[measure.name])
                for result in results
                if measure.name in result.differences
            ]
            unit = f"less {sweep.baseline}, same seeds"
            title = measure.title[0].upper() + measure.title[1:]
            made[f"difference-{measure.name}"] = difference_figure(title, unit, rows, measure.digits)
    return {name: figure for name, figure in made.items() if figure}


def _by_value(everything: Sequence[ArmResult], tuned: Tuned | None, sweep: SweepFile) -> str:
    """What every arm reached at each of the values that were compared."""
    if tuned is None:
        return ""
    (measure,) = (measure for measure in MEASURES if measure.name == CHOSEN_BY)
    chosen = {name: tuple(of_name.values()) for name, of_name in combinations_of(sweep).items() if name in tuned.values}
    if all(isinstance(value, int | float) for values in chosen.values() for value in values):
        chosen = dict(sorted(chosen.items(), key=lambda item: item[1]))
    curves = []
    for place, arm in enumerate(sweep.arms):
        of_arm = {result.setting: result.estimates.get(measure.name) for result in everything if result.arm == arm}
        points = [(i, found) for i, name in enumerate(chosen) if (found := of_arm.get(tuned.values[name]))]
        curves.append(Curve(arm, place, Band(*zip(*points, strict=True)) if points else Band((), ())))
    title = measure.title[0].upper() + measure.title[1:]
    shown = [", ".join(map(str, values)) for values in chosen.values()]
    axis = " and ".join(value_labels(sweep))
    return curve_figure(title, "all finished seeds", curves, measure.digits, axis, shown)


def arm_table(results: Sequence[ArmResult], sweep: SweepFile) -> list[list[str]]:
    """Header and a row per arm of one setting: what it reached, means with 95 % intervals."""
    measures = [m for m in MEASURES if any(m.name in result.estimates for result in results)]
    chosen = ["at"] if results[0].tuned else []
    header = ["arm", "runs", *chosen, *(m.title for m in measures), *(f"reaches {level:g}" for level in sweep.reach)]
    return [header] + [
        [
            result.arm,
            f"{result.finished} of {result.planned}",
            *([result.tuned.chosen[result.arm] or "-"] if result.tuned else []),
            *(with_interval(result.estimates.get(m.name), m.digits) for m in measures),
            *(reached_text(result, level) for level in sweep.reach),
        ]
        for result in results
    ]


def difference_table(results: Sequence[ArmResult]) -> list[list[str]]:
    """Header and a row per arm and measure of one setting: the paired difference to the baseline."""
    rows = [["arm", "measure", "difference", "seeds", "higher / lower", "sign test p", "excludes 0"]]
    for result in results:
        for measure in MEASURES:
            if (difference := result.differences.get(measure.name)) and measure.name in _DRAWN:
                rows.append(
                    [
                        result.arm,
                        measure.title,
                        with_interval(difference.estimate, measure.digits, signed=True),
                        str(difference.estimate.n),
                        f"{difference.higher} / {difference.lower}",
                        f"{difference.sign_p:.3f}",
                        "yes" if difference.excludes_zero else "no",
                    ]
                )
    return rows


def verdict(results: Sequence[ArmResult], sweep: SweepFile) -> str:
    """A sentence or two on one setting: which arms' mean accuracy differs from the baseline's beyond the interval."""
    at_best = f"{_at_best(results[0].tuned, sweep)} " if results[0].tuned else ""
    compared = [(r.arm, r.differences["area_under_curve"]) for r in results if "area_under_curve" in r.differences]
    if not compared:
        return f"{at_best}Nothing can be said yet: no arm has finished a seed that {sweep.baseline} has finished too."
    differs = [
        f"{arm} is {'above' if d.estimate.mean > 0 else 'below'} {sweep.baseline}, by "
        f"{with_interval(d.estimate, 3, signed=True)}"
        for arm, d in compared
        if d.excludes_zero
    ]
    rest = [arm for arm, d in compared if not d.excludes_zero]
    parts = [f"In mean accuracy over training {'; '.join(differs)}."] if differs else []
    if rest:
        parts.append(f"No difference to {sweep.baseline} can be told for {', '.join(rest)}.")
    return at_best + " ".join(parts)


def _at_best(tuned: Tuned, sweep: SweepFile) -> str:
    seeds = ", ".join(map(str, sweep.tune_on))
    said = (
        f"Every arm at the one of {', '.join(tuned.values)} with its highest mean accuracy over training on seeds "
        f"{seeds}, measured on the others."
    )
    left_out = [arm for arm, value in tuned.chosen.items() if value is None]
    return f"{said} Left out, for want of one of these runs: {', '.join(left_out)}." if left_out else said


def markdown(results: Sequence[ArmResult], sweep: SweepFile) -> str:
    """The tables of every setting as Markdown."""
    parts = []
    for setting in _begun(results):
        here = [result for result in results if result.setting == setting]
        parts += [f"## {setting}\n"] if setting else []
        parts.append(f"{verdict(here, sweep)}\n")
        parts += [_as_markdown(arm_table(here, sweep)), _as_markdown(difference_table(here))]
    return "\n".join(parts)


def _settings(results: Sequence[ArmResult]) -> list[str]:
    return list(dict.fromkeys(result.setting for result in results))


def _begun(results: Sequence[ArmResult]) -> list[str]:
    """Settings in which a run has finished; all of them where none has."""
    return _settings([result for result in results if result.finished]) or _settings(results)


def _as_markdown(table: Sequence[Sequence[str]]) -> str:
    header, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def make_page(
    name: str,
    sweep: SweepFile,
    described: dict[str, Any],
    outcomes: Sequence[Outcome],
    results: Sequence[ArmResult],
) -> str:
    """The page as one HTML text."""
    script = _script()
    policy = (
        f"default-src 'none'; script-src 'sha256-{sha256(script)}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    sections = []
    begun = _begun(results)
    for setting in begun:
        here = [result for result in results if result.setting == setting]
        drawn = _figures(results, setting, sweep)
        sections.append(
            {
                "name": setting,
                "verdict": verdict(here, sweep),
                "curves": [figure for name, figure in drawn.items() if not name.startswith("difference")],
                "difference_figures": [figure for name, figure in drawn.items() if name.startswith("difference")],
                "arms": arm_table(here, sweep),
                "differences": difference_table(here),
            }
        )
    finished = sum(outcome.status == "finished" for outcome in outcomes)
    facts = [
        ("Recipe", sweep.recipe),
        ("Seeds", f"{len(sweep.seeds)}: {', '.join(map(str, sweep.seeds))}"),
        ("Baseline", sweep.baseline),
        ("Runs", f"{finished} of {len(outcomes)} finished"),
        ("Commit", (described.get("git_commit") or "unknown")[:12]),
    ]
    arms = [
        {"name": arm, "swatch": swatch(place), "options": ", ".join(f"{k}: {v}" for k, v in options.items()) or "-"}
        for place, (arm, options) in enumerate(sweep.arms.items())
    ]
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            title=name,
            policy=policy,
            style=own_style() + STYLE + _own("sweep.css"),
            script=script,
            facts=facts,
            arms=arms,
            notes=[*described.get("notes", []), *unpaired(outcomes, sweep)],
            sections=sections,
            later=[setting for setting in _settings(results) if setting not in begun],
            unfinished=[
                outcome for outcome in outcomes if outcome.status != "finished" and outcome.run.setting in begun
            ],
            written_at=datetime.now(timezone.utc).strftime("%d %b %Y, %H:%M UTC"),
        )
    )


def _script() -> str:
    return '(() => {\n"use strict";\n' + _own("start.js") + "\n" + _own("sweep.js") + "\n})();"


def _own(name: str) -> str:
    return (Path(__file__).parent / "page" / name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> Path:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="replace")
    return path
