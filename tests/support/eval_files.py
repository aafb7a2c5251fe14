"""Small graded evaluations for tests."""

import json
from pathlib import Path

from eval.grading import grade_file


def make_result(folder: Path, verdicts: list[bool], tokens: int = 10) -> str:
    """A graded result folder with one task, ``t``, and one sample per verdict; its name is that of ``folder``."""
    rows = [
        {"task": "t", "problem": f"p{i}", "answer": "1", "output": f"\\boxed{{{int(is_correct)}}}", "tokens": tokens}
        for i, is_correct in enumerate(verdicts)
    ]
    folder.mkdir(parents=True)
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    grade_file(folder / "answers.jsonl", folder / folder.name, None)
    return str(folder / folder.name)
