"""A key-token map as a matplotlib figure: a grid of monospaced characters, coloured token by token."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from openrlhf_ktae.report.groups import VALUE_BOUNDS

COLUMNS = 96
"""Characters per line."""
ROLLOUTS = 4
LINES = 24
"""Lines per rollout; a longer one is cut and says so."""
POSITIVE = ("#e3f4ee", "#bde5d6", "#87d0b5", "#52b794")
NEGATIVE = ("#fdece5", "#fbd0c0", "#f6a78e", "#ee7f5d")
_POINTS = 7.0
_WIDTH, _HEIGHT = 0.602 * _POINTS / 72, 1.75 * _POINTS / 72
"""Inches of a character cell: DejaVu Sans Mono is 0.602 em wide."""


def draw_map(view: dict[str, Any], scale: float = 1.0, rollouts: int = ROLLOUTS) -> Figure:
    """The group's map with the first correct and the first wrong rollouts, `rollouts` in all.

    Colours are by share of `scale`, the most a value can be (ktae.scale), as on the page.
    Positive values are underlined, negative ones overlined, thicker the stronger, so that the map reads without hue.
    """
    chosen = _choose(view["rollouts"], rollouts)
    blocks = [(f"rollout {r['rollout']}, {'correct' if r['correct'] else 'wrong'}", _lines(view, r)) for r in chosen]
    rows = sum(len(lines) + 2 for _, lines in blocks)
    figure = Figure(figsize=(COLUMNS * _WIDTH + 0.3, rows * _HEIGHT + 0.3))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-1.5, COLUMNS + 1.5)
    axes.set_ylim(rows + 0.5, -0.5)
    axes.axis("off")
    row = 0
    for title, lines in blocks:
        axes.text(0, row + 0.5, title, fontsize=_POINTS, weight="bold", va="center", parse_math=False)
        for offset, line in enumerate(lines, start=1):
            for column, text, value in line:
                _draw_piece(axes, row + offset, column, text, value / scale)
        row += len(lines) + 2
    return figure


def _choose(rollouts: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    right, wrong = ([r for r in rollouts if r["correct"] is side] for side in (True, False))
    from_right = max(count - len(wrong), min(len(right), (count + 1) // 2))
    return right[:from_right] + wrong[: count - min(from_right, len(right))]


def _lines(view: dict[str, Any], rollout: dict[str, Any]) -> list[list[tuple[int, str, float]]]:
    """Lines of (column, text, value): a token breaks where the line ends, a newline token ends its line."""
    value = view["statistics"]["value"]
    given = set(rollout["given"])
    lines: list[list[tuple[int, str, float]]] = [[]]
    column = 0
    for i, token in enumerate(rollout["tokens"]):
        number = rollout["values"][i] if "values" in rollout else (0.0 if i in given else value[token] or 0.0)
        text = view["vocabulary"][token].replace("\t", "⇥").replace("\r", "")
        for part in text.replace("\n", "↵\n").splitlines(keepends=True):
            piece = part.rstrip("\n").replace(" ", "·" if not part.strip() else " ")
            while piece:
                if column >= COLUMNS or (column and len(piece) > COLUMNS - column and len(piece) <= COLUMNS):
                    lines.append([])
                    column = 0
                fits, piece = piece[: COLUMNS - column], piece[COLUMNS - column :]
                lines[-1].append((column, fits, number))
                column += len(fits)
            if part.endswith("\n"):
                lines.append([])
                column = 0
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) > LINES:
        lines = [*lines[:LINES], [(0, f"… {len(lines) - LINES} more lines", 0.0)]]
    return lines


def _draw_piece(axes: Axes, row: int, column: int, text: str, value: float) -> None:
    level = sum(abs(value) >= bound for bound in VALUE_BOUNDS)
    if level:
        colour = (POSITIVE if value > 0 else NEGATIVE)[level - 1]
        axes.add_patch(Rectangle((column + 0.04, row + 0.08), len(text) - 0.08, 0.84, color=colour, lw=0))
        if level > 1:
            height = row + 0.92 if value > 0 else row + 0.08
            axes.plot(
                [column + 0.04, column + len(text) - 0.04],
                [height, height],
                lw=0.4 * level,
                solid_capstyle="butt",
                color="#0d6b54" if value > 0 else "#a93312",
            )
    axes.text(
        column, row + 0.5, text, fontsize=_POINTS, family="monospace", va="center", color="#1b1d21", parse_math=False
    )
