"""``openrlhf-ktae checkpoints RUN``: which checkpoints a run has, and whether each is whole."""

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from openrlhf_ktae.checkpoints import MANIFEST, PART, Checkpoint, checkpoint_folder, list_checkpoints
from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.runs.terminal import console, say, say_error


def checkpoints_command(run: Path) -> int:
    """Lists and verifies; returns 1 if one is damaged, 2 if ``run`` is no run folder."""
    folder = checkpoint_folder(RunFolder(run))
    if folder is None:
        say_error("error", f"RUN: {run} holds no run.json with checkpoints; name a run folder, such as runs/latest")
        return 2
    found = list_checkpoints(folder)
    problems = {checkpoint.tag: checkpoint.problem() for checkpoint in found}
    if found:
        console.print(_table(found, problems))
    for part in sorted(folder.glob(f"*{PART}")):
        say(f"{part.name}: not complete; removed when the next one is written")
    whole = [checkpoint for checkpoint in found if problems[checkpoint.tag] is None]
    say(f"{folder}: {len(whole)} whole, {len(found) - len(whole)} damaged" if found else f"{folder}: no checkpoint")
    return 1 if len(whole) < len(found) else 0


def _table(found: list[Checkpoint], problems: dict[str, str | None]) -> Table:
    table = Table(show_header=True, header_style="bold")
    for title in ("checkpoint", "step", "written (UTC)", "files", "bytes", "metric", "state"):
        table.add_column(title, justify="right" if title in ("step", "files", "bytes", "metric") else "left")
    for checkpoint in found:
        manifest = _read(checkpoint.path / MANIFEST)
        metric = _read(checkpoint.path / "metric.json").get("metric_value")
        problem = problems[checkpoint.tag]
        state = "whole" if problem is None and checkpoint.has_manifest else problem or "whole (no hashes noted)"
        table.add_row(
            checkpoint.tag,
            str(checkpoint.step),
            str(manifest.get("written_at", "-")),
            str(len(manifest.get("files", ())) or "-"),
            f"{checkpoint.size:,}",
            "-" if metric is None else f"{metric:.3f}",
            state,
        )
    return table


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
