"""OpenRLHF prompt sets on disk: JSON lines of input, label and datasource."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openrlhf_ktae.files import replacing

PromptRow = dict[str, Any]
"""A row of a prompt set: ``input`` (the prompt with its template), ``label``, ``datasource``."""


def write_prompts(rows: Iterable[PromptRow], path: Path) -> None:
    """Writes JSON lines; the same rows give the same bytes, and a file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
