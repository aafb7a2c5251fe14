"""The page of a comparison: one HTML file with its tables, its plots and plotly itself."""

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly import graph_objects
from plotly.offline import get_plotlyjs

from eval.compare import AVERAGE, Comparison
from eval.tables import entry_label, p_text, tables, task_title

COLOURS = ("#2f5bd0", "#c2540a", "#137a63", "#9a2f7c", "#7a6a00", "#55606e")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_TEMPLATE = Path(__file__).with_name("compare.html.j2")
_SCRIPT = Path(__file__).with_name("compare.js")


def write_page(comparison: Comparison, path: Path) -> Path:
    """Writes the page; it needs no network to be shown."""
    plots = {
        "accuracy": accuracy_plot(comparison),
        "differences": difference_plot(comparison),
        "tokens": tokens_plot(comparison),
    }
    sections = [
        {"table": table, "plot": _json(plots[table.name]) if table.name in plots else None}
        for table in tables(comparison)
    ]
    scripts = {"plotly": get_plotlyjs(), "script": _SCRIPT.read_text(encoding="utf-8")}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=" / ".join(entry.label for entry in comparison.entries),
        lead="Average: unweighted mean of the tasks. Intervals: 95 % over problems (Wilson's for one task with one "
        "sample a problem, otherwise a bootstrap).",
        notes=comparison.notes,
        sections=sections,
        settings=[(entry_label(entry), _settings(entry.results)) for entry in comparison.entries],
        policy=_security_policy(scripts.values()),
        **{name: Markup(script) for name, script in scripts.items()},
    )
    path.write_text(text, encoding="utf-8", errors="replace")
    return path


def _security_policy(scripts: Iterable[str]) -> str:
    """Content security policy: no network at all, and no script but these."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def accuracy_plot(comparison: Comparison) -> graph_objects.Figure:
    """Accuracy of each result on each task, with its interval."""
    figure = _figure("accuracy in %")
    tasks = [*comparison.tasks, AVERAGE]
    for number, entry in enumerate(comparison.entries):
        rows = [(task, row) for task in tasks if (row := entry.row(task))]
        values = [100 * row["pass@1"] for _, row in rows]
        figure.add_scatter(
            x=[_position(tasks, task, number, comparison) for task, _ in rows],
            y=values,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [100 * row["ci95"][1] - value for (_, row), value in zip(rows, values, strict=True)],
                "arrayminus": [value - 100 * row["ci95"][0] for (_, row), value in zip(rows, values, strict=True)],
                "thickness": 1.5,
                "width": 3,
            },
            text=[f"{escape(task_title(task))}: {value:.1f} %" for (task, _), value in zip(rows, values, strict=True)],
            **_look(number, entry_label(entry)),
        )
    figure.update_yaxes(rangemode="tozero")
    return _task_axis(figure, tasks)


def difference_plot(comparison: Comparison) -> graph_objects.Figure:
    """Paired differences to the first result, with intervals and p-values."""
    figure = _figure(f"points against {comparison.entries[0].label}")
    tasks = [*comparison.tasks, AVERAGE]
    for number, entry in enumerate(comparison.entries[1:], start=1):
        found = [(task, d) for task in tasks if (d := comparison.differences.get((number, task)))]
        if not found:
            continue
        figure.add_scatter(
            x=[_position(tasks, task, number, comparison) for task, _ in found],
            y=[100 * d.value for _, d in found],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [100 * (d.interval[1] - d.value) for _, d in found],
                "arrayminus": [100 * (d.value - d.interval[0]) for _, d in found],
                "thickness": 1.5,
                "width": 3,
            },
            text=[
                f"{escape(task_title(task))}: {100 * d.value:+.1f}, {p_text(d.p_value)} ({d.test})" for task, d in found
            ],
            **_look(number, entry_label(entry)),
        )
    figure.update_yaxes(rangemode="tozero", zeroline=True, zerolinecolor="#8a949e", zerolinewidth=1.5)
    return _task_axis(figure, tasks)


def tokens_plot(comparison: Comparison) -> graph_objects.Figure:
    """Mean response length of each result on each task."""
    figure = _figure("mean response length in tokens")
    tasks = [*comparison.tasks, AVERAGE]
    for number, entry in enumerate(comparison.entries):
        rows = [(task, row["mean_tokens"]) for task in tasks if (row := entry.row(task)) and row["mean_tokens"]]
        figure.add_scatter(
            x=[_position(tasks, task, number, comparison) for task, _ in rows],
            y=[value for _, value in rows],
            text=[f"{escape(task_title(task))}: {value:.0f} tokens" for task, value in rows],
            **_look(number, entry_label(entry)),
        )
    figure.update_yaxes(rangemode="tozero")
    return _task_axis(figure, tasks)


def _position(tasks: list[str], task: str, number: int, comparison: Comparison) -> float:
    """Place of a marker: the task's, shifted so that the results stand side by side."""
    count = len(comparison.entries)
    return tasks.index(task) + (number - (count - 1) / 2) * min(0.12, 0.7 / count)


def _look(number: int, label: str) -> dict[str, Any]:
    colour, symbol = COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]
    return {
        "name": escape(label),  # plotly reads <b> and the like in labels as markup
        "mode": "markers",
        "marker": {"color": colour, "symbol": symbol, "size": 9},
        "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }


def _figure(unit: str) -> graph_objects.Figure:
    figure = graph_objects.Figure()
    figure.update_layout(
        template="plotly_white",
        height=380,
        margin={"l": 64, "r": 16, "t": 40, "b": 48},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1d2329"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        showlegend=True,
    )
    figure.update_yaxes(title=escape(unit))
    return figure


def _task_axis(figure: graph_objects.Figure, tasks: list[str]) -> graph_objects.Figure:
    figure.update_xaxes(
        tickvals=list(range(len(tasks))),
        ticktext=[escape(task_title(task)) for task in tasks],
        range=[-0.6, len(tasks) - 0.4],
        showgrid=False,
        zeroline=False,
    )
    return figure


def _json(figure: graph_objects.Figure) -> Markup:
    plot = json.loads(figure.to_json() or "")
    plot["layout"].pop("template", None)
    plot["layout"]["xaxis"]["automargin"] = True
    # A label must not be able to end the script element it stands in.
    return Markup(json.dumps({key: plot[key] for key in ("data", "layout")}).replace("<", "\\u003c"))


def _settings(results: dict[str, Any]) -> str:
    shown = ("model", "template", "source", "n", "temperature", "top_p", "max_tokens", "max_model_len", "seed", "limit")
    settings = results["settings"]
    return ", ".join(f"{name} {settings[name]}" for name in shown if settings.get(name) is not None) or "not known"
