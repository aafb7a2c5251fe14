"""What goes into the one file: compressed data, plotly, the page's own script and style, and which groups fit."""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from plotly.offline import get_plotlyjs

from openrlhf_ktae.config import KEY_TOKEN_SHARE
from openrlhf_ktae.report.groups import GroupSummary, list_groups, read_groups
from openrlhf_ktae.report.run_folder import Run

SCRIPTS = ("start.js", "curves.js", "maps.js", "tokens.js", "views.js")
MOST_OF_A_STEP = 64
"""Groups of one step that may be shown; larger steps are judged by their most evenly split ones."""
TOO_LARGE_IN_A_ROW = 4
"""After so many groups that do not fit any more, the page is full."""
BYTES_AROUND_GROUP = 300
"""At most what a group's element and its entry in the index take beside its data."""

UNREADABLE = (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError)
"""What a damaged file raises."""


@dataclass(frozen=True)
class EmbeddedGroup:
    run: int
    summary: GroupSummary
    prompt: str
    key_share: float
    """Share of its tokens that are key tokens."""
    packed: str
    """`pack` of the group's view."""


@dataclass(frozen=True)
class Selection:
    groups: list[EmbeddedGroup]
    """Ascending by run, step, and group."""
    total: int
    notes: dict[int, list[str]]
    """Run -> sentences about files that could not be read after all."""


def pack(data: Any) -> str:
    """JSON, gzip, base64: the form in which the page holds data. It contains no `<`, so it cannot end its element."""
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")


@cache
def plotly_source() -> str:
    return get_plotlyjs()


@cache
def packed_plotly() -> str:
    return base64.b64encode(gzip.compress(plotly_source().encode(), 9, mtime=0)).decode("ascii")


@cache
def own_script() -> str:
    """The page's script: the parts in order, in one closed scope."""
    parts = [(Path(__file__).parent / "page" / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "\n})();"


@cache
def own_style() -> str:
    return (Path(__file__).parent / "page" / "report.css").read_text(encoding="utf-8")


def security_policy() -> str:
    """Content security policy: no network at all, and no script but the two whose hashes stand here."""
    hashes = " ".join(f"'sha256-{sha256(source)}'" for source in (own_script(), plotly_source()))
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def select_groups(runs: Sequence[Run], budget: int, wanted: Sequence[tuple[int, int]] = ()) -> Selection:
    """Groups to embed within `budget` bytes: those in `wanted` (step, group) always, then the best of every step.

    The best of a step is the most evenly split group; steps take turns, the last step first, so that a long run is
    covered from end to end before any step shows a second group. Only these are read.
    """
    notes: dict[int, list[str]] = {}
    total, turns = 0, []
    for i, run in enumerate(runs):
        for turn, step in enumerate(_spread(sorted(run.rollout_files))):
            try:
                summaries = list_groups(step, run.rollout_files[step])
            except UNREADABLE as error:
                _note_damage(notes, i, step, error)
                continue
            total += len(summaries)
            asked = {group for s, group in wanted if s == step}
            best = sorted(summaries, key=lambda s: (s.group not in asked, s.interest))
            turns += [
                (-1 if summary.group in asked else place, turn, i, summary)
                for place, summary in enumerate(best[: MOST_OF_A_STEP + len(asked)])
            ]
    chosen, used, too_large, damaged = [], 0, 0, set()
    for place, _, i, summary in sorted(turns, key=lambda item: item[:3]):
        if (i, summary.step) in damaged or (place >= 0 and too_large == TOO_LARGE_IN_A_ROW):
            continue
        try:
            group = _embed(runs[i], i, summary)
        except UNREADABLE as error:
            _note_damage(notes, i, summary.step, error)
            damaged.add((i, summary.step))
            continue
        size = len(group.packed) + BYTES_AROUND_GROUP
        fits = place < 0 or used + size <= budget
        too_large = 0 if fits else too_large + 1
        if fits:
            chosen.append(group)
            used += size
    chosen = [group for group in chosen if (group.run, group.summary.step) not in damaged]
    chosen.sort(key=lambda g: (g.run, g.summary.step, g.summary.group))
    return Selection(chosen, total, notes)


def _embed(run: Run, number: int, summary: GroupSummary) -> EmbeddedGroup:
    step = summary.step
    view = read_groups(run.rollout_files[step], run.token_files.get(step), [summary.group])[summary.group]
    return EmbeddedGroup(number, summary, view["prompt"], key_share(view, run.scale), pack(view))


def _note_damage(notes: dict[int, list[str]], run: int, step: int, error: Exception) -> None:
    message = (str(error).splitlines() or ["no message"])[0][:90]
    notes.setdefault(run, []).append(f"rollouts/step_{step:05d}.parquet is damaged ({message}): left out.")


def key_share(view: dict[str, Any], scale: float) -> float:
    """Share of a group's tokens that are key tokens, as in the metric ktae/key_token_frac."""
    value = view["statistics"]["value"]
    tokens = [t for rollout in view["rollouts"] for t in rollout["tokens"]]
    return round(sum(abs(value[t] or 0.0) > KEY_TOKEN_SHARE * scale for t in tokens) / max(1, len(tokens)), 3)


def _spread(steps: list[int]) -> list[int]:
    """The last step, the first, then always the middle of what is left: any beginning covers the run evenly."""
    order = steps[-1:] + steps[:1] if len(steps) > 1 else list(steps)
    gaps = [(0, len(steps) - 1)] if len(steps) > 2 else []
    while gaps:
        low, high = gaps.pop(0)
        middle = (low + high) // 2
        if middle not in (low, high):
            order.append(steps[middle])
            gaps += [(low, middle), (middle, high)]
    return order


def sha256(text: str) -> str:
    """Of a script, as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
