"""Figures of a sweep as SVG text: curves with bands, and differences with intervals. No script draws them.

Colour, dash and marker tell arms apart, so that no figure needs hues. Every curve and every row takes the keyboard's
focus, says its numbers, and then stands out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from openrlhf_ktae.sweep.comparison import Band, with_interval
from openrlhf_ktae.sweep.statistics import Difference

WIDTH, HEIGHT = 400, 290
_LEFT, _RIGHT, _BOTTOM = 46, 12, 40
_LETTER = 6.6
"""Mean width of a letter of the legend."""
_ROW = 30
_COLOURS, _DASHES = 6, ("", "7 4", "2 3", "9 3 2 3")
_MARKERS = ("circle", "square", "diamond", "triangle")

STYLE = """
.figure { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; display: block; width: 100%; }
.figure text { fill: var(--text); } .figure .quiet { fill: var(--muted); font-size: 11px; }
.figure .title { font-size: 13.5px; font-weight: 600; }
.figure .grid { stroke: var(--line); stroke-width: 1; } .figure .zero { stroke: var(--muted); stroke-width: 1.2; }
.figure .mean { fill: none; stroke-width: 2; stroke: var(--own); } .figure .marker { fill: var(--own); }
.figure .band { fill: var(--own); opacity: 0.15; } .figure .interval { stroke: var(--own); stroke-width: 2; }
.figure .arm0 { --own: var(--series-1); } .figure .arm1 { --own: var(--series-2); }
.figure .arm2 { --own: var(--series-3); } .figure .arm3 { --own: var(--series-4); }
.figure .arm4 { --own: var(--series-5); } .figure .arm5 { --own: var(--series-6); }
.figure .item { outline: none; cursor: default; }
.figure:has(.item:hover) .item:not(:hover), .figure:has(.item:focus) .item:not(:focus) { opacity: 0.22; }
.figure .item:focus .mean, .figure .item:hover .mean { stroke-width: 3.5; }
.figure .item:focus .band, .figure .item:hover .band { opacity: 0.3; }
.figure .focus { fill: none; stroke: none; }
.figure .item:focus-visible .focus { stroke: var(--accent); stroke-width: 2; }
"""

_PALETTE = {
    "light": "--text:#1b1d21;--muted:#5a5f67;--line:#e2e2dd;--accent:#2f5bd0;--surface:#ffffff;--series-1:#2f5bd0;"
    "--series-2:#c2540a;--series-3:#137a63;--series-4:#9a2f7c;--series-5:#7a6a00;--series-6:#55606e",
    "dark": "--text:#e8eaed;--muted:#a3a9b3;--line:#2d3138;--accent:#9bb6ff;--surface:#191c21;--series-1:#8fb0ff;"
    "--series-2:#f3a05f;--series-3:#5cc9a7;--series-4:#e08cc5;--series-5:#d3c052;--series-6:#a7b2c0",
}
"""As in report.css, for a figure that stands alone."""


@dataclass(frozen=True)
class Curve:
    """One arm's line."""

    label: str
    place: int
    """Of the arm in the sweep's file: it sets colour, dash and marker."""
    band: Band


@dataclass(frozen=True)
class DifferenceRow:
    """One arm's difference to the baseline."""

    label: str
    place: int
    difference: Difference


def curve_figure(
    title: str, unit: str, curves: Sequence[Curve], digits: int, axis: str = "step", places: Sequence[str] = ()
) -> str:
    """Means with bands over the steps.

    Args:
        digits: of the numbers that are said.
        axis: what the horizontal axis shows.
        places: names of its places 0, 1, ... where these are no steps.
    """
    drawn = [curve for curve in curves if curve.band.steps]
    if not drawn:
        return ""
    legend, top = _legend([(curve.label, curve.place) for curve in drawn])
    steps = [step for curve in drawn for step in curve.band.steps]
    ends = [end for curve in drawn for e in curve.band.estimates for end in (e.mean, e.low, e.high) if end is not None]
    low, high, ticks = _axis(min(ends), max(ends))
    last = max(max(steps), min(steps) + 1)

    def x(step: float) -> float:
        return _LEFT + (step - min(steps)) / (last - min(steps)) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _BOTTOM - top)

    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="quiet" x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    )
    named = {step: places[step] if places else str(step) for step in sorted(set(steps))}
    shown = list(named)[:: max(1, -(-len(named) // 6))]
    grid += "".join(
        f'<text class="quiet" x="{x(step):.1f}" y="{HEIGHT - _BOTTOM + 17}" '
        f'text-anchor="{"end" if places and step == last else "middle"}">{escape(named[step])}</text>'
        for step in shown
    )
    grid += f'<text class="quiet" x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(axis)}</text>'
    said = {step: name if places else f"step {name}" for step, name in named.items()}
    body = "".join(_curve(curve, x, y, digits, said) for curve in drawn)
    return _figure(f"{title}, {unit}", HEIGHT, _title(title, unit) + legend + grid + body)


def difference_figure(title: str, unit: str, rows: Sequence[DifferenceRow], digits: int) -> str:
    """Means and intervals of differences, a row an arm, with the line of no difference."""
    if not rows:
        return ""
    ends = [
        end for row in rows for end in (row.difference.estimate.low, row.difference.estimate.high) if end is not None
    ]
    low, high, ticks = _axis(min(0.0, *ends, *(r.difference.estimate.mean for r in rows)),
                             max(0.0, *ends, *(r.difference.estimate.mean for r in rows)))  # fmt: skip
    top, left = 44, min(WIDTH // 2, 26 + int(7.2 * max(len(row.label) for row in rows)))
    height = top + _ROW * len(rows) + _BOTTOM

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - 26)

    bottom = top + _ROW * len(rows)
    grid = "".join(
        f'<line class="{"zero" if abs(tick) < 1e-12 else "grid"}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" '
        f'y2="{bottom}"/><text class="quiet" x="{x(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{tick:+g}</text>'
        for tick in ticks
    )
    body = ""
    for number, row in enumerate(rows):
        estimate, middle = row.difference.estimate, top + _ROW * (number + 0.5)
        said = f"{row.label}: {with_interval(estimate, digits, signed=True)}, {estimate.n} seeds"
        line = ""
        if estimate.low is not None and estimate.high is not None:
            ends_x = f'x1="{x(estimate.low):.1f}" x2="{x(estimate.high):.1f}"'
            line = f'<line class="interval" {ends_x} y1="{middle}" y2="{middle}"/>'
        body += _item(
            row.place,
            said,
            f'<rect class="focus" x="2" y="{middle - _ROW / 2 + 2}" width="{WIDTH - 4}" height="{_ROW - 4}" rx="5"/>'
            f'<text x="8" y="{middle + 4}">{escape(row.label)}</text>{line}'
            + _marker(row.place, x(estimate.mean), middle, 4.5),
        )
    return _figure(f"{title}, {unit}", height, _title(title, unit) + grid + body)


def standalone(figure: str) -> str:
    """A figure as a file of its own, in the reader's light or dark."""
    start, _, rest = figure.partition(">")
    style = (
        f"svg{{{_PALETTE['light']};background:var(--surface)}}"
        f"@media (prefers-color-scheme: dark){{svg{{{_PALETTE['dark']}}}}}{STYLE}"
    )
    return f'{start} xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}"><style>{style}</style>{rest}\n'


def swatch(place: int) -> str:
    """Line and marker of an arm, for a legend in the text."""
    line = f'<line class="mean" x1="1" x2="29" y1="7" y2="7"{_dash(place)}/>'
    return (
        f'<svg class="figure swatch" viewBox="0 0 30 14" aria-hidden="true"><g class="arm{place % _COLOURS}">{line}'
        f"{_marker(place, 15, 7, 3.6)}</g></svg>"
    )


def _figure(label: str, height: float, content: str) -> str:
    box = f'viewBox="0 0 {WIDTH} {height:g}"'
    return f'<svg class="figure" {box} role="group" aria-label="{escape(label)}">{content}</svg>'


def _title(title: str, unit: str) -> str:
    return (
        f'<text class="title" x="4" y="15">{escape(title)}'
        f'<tspan class="quiet" font-weight="400" dx="8">{escape(unit)}</tspan></text>'
    )


def _legend(labels: Sequence[tuple[str, int]]) -> tuple[str, float]:
    """The arms' lines and names below the title, in as many rows as they need; and where the plot begins."""
    text, x, y = "", 4.0, 34.0
    for label, place in labels:
        width = 34 + _LETTER * len(label) + 12
        if x + width > WIDTH and x > 4:
            x, y = 4.0, y + 17
        text += (
            f'<g class="arm{place % _COLOURS}"><line class="mean" x1="{x:.1f}" x2="{x + 26:.1f}" y1="{y - 4}" '
            f'y2="{y - 4}"{_dash(place)}/>{_marker(place, x + 13, y - 4, 3.6)}'
            f'<text class="quiet" x="{x + 31:.1f}" y="{y}">{escape(label)}</text></g>'
        )
        x += width
    return text, y + 14


def _curve(curve: Curve, x, y, digits: int, named: Mapping[int, str]) -> str:
    points = list(zip(curve.band.steps, curve.band.estimates, strict=True))
    upper = [(x(step), y(e.high)) for step, e in points if e.high is not None]
    lower = [(x(step), y(e.low)) for step, e in points if e.low is not None]
    outline = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*upper, *reversed(lower)])
    line = " ".join(f"{x(step):.1f},{y(e.mean):.1f}" for step, e in points)
    said = f"{curve.label}: " + "; ".join(f"{named[step]} {with_interval(e, digits)}" for step, e in points)
    markers = "".join(_marker(curve.place, x(step), y(e.mean), 3.6) for step, e in points)
    band = f'<polygon class="band" points="{outline}"/>' if outline else ""
    return _item(curve.place, said, f'{band}<polyline class="mean" points="{line}"{_dash(curve.place)}/>{markers}')


def _item(place: int, said: str, content: str) -> str:
    return (
        f'<g class="item arm{place % _COLOURS}" tabindex="0" role="img" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title>{content}</g>"
    )


def _dash(place: int) -> str:
    # With as many markers as dashes, the fifth arm gets the first one's marker with another dash.
    dash = _DASHES[(place + place // len(_MARKERS)) % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _marker(place: int, x: float, y: float, r: float) -> str:
    kind = _MARKERS[place % len(_MARKERS)]
    if kind == "circle":
        return f'<circle class="marker" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    corners = {
        "square": ((-r, -r), (r, -r), (r, r), (-r, r)),
        "diamond": ((0, -1.3 * r), (1.3 * r, 0), (0, 1.3 * r), (-1.3 * r, 0)),
        "triangle": ((0, -1.2 * r), (1.2 * r, r), (-1.2 * r, r)),
    }[kind]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="marker" points="{points}"/>'


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Ends and ticks at round numbers around a range; four to seven of them."""
    span = high - low or abs(high) or 1.0
    step = next(
        size * 10.0**power
        for power in range(-9, 10)
        for size in (1, 2, 5)
        if span / (size * 10.0**power) <= 5
    )  # fmt: skip
    first, last = int(low // step), int(-(-high // step))
    last = max(last, first + 1)
    ticks = [round(number * step, 10) for number in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks
