"""What ``openrlhf-ktae data --check-labels`` says: how many references of a prompt set the grader can read."""

import json
from pathlib import Path

from openrlhf_ktae.reward.grading import Grader
from openrlhf_ktae.reward.survey import Survey, survey

_SHOWN = 5  # references of each reason
_LONGEST = 100


def check_prompt_labels(path: Path) -> str:
    """Reads the references of a written prompt set and says what they are; a label of several counts each of them."""
    references: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            label = json.loads(line)["label"]
            references += json.loads(label) if label.startswith('["') and label.endswith('"]') else [label]
    grader = Grader()
    try:
        return report(survey(references, grader))
    finally:
        grader.close()


def report(found: Survey) -> str:
    """A few lines: how many can be read, by kind, and examples of those that cannot."""
    readable = found.total - found.unread
    share = 100 * readable / max(1, found.total)
    kinds = ", ".join(f"{kind} {count}" for kind, count in found.kinds.most_common())
    lines = [f"labels: {readable} of {found.total} references can be read ({share:.1f} %): {kinds}"]
    for why, references in sorted(found.unreadable.items(), key=lambda item: -len(item[1])):
        lines.append(f"cannot be read: {len(references)} ({why}); only the same text would be right")
        lines += [f"  {_short(reference)}" for reference in references[:_SHOWN]]
    return "\n".join(lines)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
