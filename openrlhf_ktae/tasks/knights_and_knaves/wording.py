"""Puzzles as English text, as the published data word them, and rows of those data."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_ktae.tasks.knights_and_knaves.puzzles import ATOMS, Puzzle, Statement
from openrlhf_ktae.tasks.knights_and_knaves.verifier import decode_label, label_of
from openrlhf_ktae.tasks.templates import Template

NAMES = (
    "Abigail", "Aiden", "Alexander", "Amelia", "Aria", "Aurora", "Ava", "Avery", "Benjamin", "Charlotte", "Chloe",
    "Daniel", "David", "Elizabeth", "Ella", "Emily", "Emma", "Ethan", "Evelyn", "Grace", "Harper", "Henry", "Isabella",
    "Jack", "Jackson", "Jacob", "James", "Joseph", "Lily", "Logan", "Lucas", "Luke", "Mason", "Matthew", "Mia",
    "Michael", "Noah", "Oliver", "Olivia", "Owen", "Penelope", "Riley", "Samuel", "Sebastian", "Sofia", "Victoria",
    "Zoey",
)  # fmt: skip
_SAYS = ("{n} said, \"{s}.\"", "{n} told you that {s}.", "{n} remarked, \"{s}\".", "As {n} put it, \"{s}\".",
         "According to {n}, \"{s}\".", "In {n}'s words: \"{s}\".", "{n} noted, \"{s}\".")  # fmt: skip
_JOINED = {"and": "{0} and {1}", "or": "{0} or {1}", "->": "if {0} then {1}", "<=>": "{0} if and only if {1}"}

# Letter by letter that of the published files, the missing space and the double one included.
TEMPLATE = Template(
    "knights_and_knaves",
    "<|im_start|>system\nYou are a helpful assistant. The assistant first thinks about the reasoning process in the "
    "mind and then provides the user with the answer. The reasoning process and answer are enclosed within <think> "
    "</think> and<answer> </answer> tags, respectively, i.e., <think> reasoning process here </think><answer> answer "
    "here </answer>.  Now the user asks you to solve a logical reasoning problem. After thinking, when you finally "
    "reach a conclusion, clearly state the identity of each character within <answer> </answer> tags. i.e., <answer> "
    "(1) Zoey is a knight\n(2) ... </answer>.\n<|im_end|>\n<|im_start|>user\n{q}\n<|im_end|>\n"
    "<|im_start|>assistant\n<think>",
    "tags",
    ("</answer>",),
    source="Logic-RL's prompt for instruction-tuned models, arXiv 2502.14768",
)


def sentence(said: Statement, names: Sequence[str]) -> str:
    """A statement in words; nested parts are read without doubt."""
    kind = said[0]
    if kind in ATOMS:
        return f"{names[said[1]]} is a {'knight' if kind == 'telling-truth' else 'knave'}"
    if kind == "not" and said[1][0] in ATOMS:
        return f"{names[said[1][1]]} is not a {'knight' if said[1][0] == 'telling-truth' else 'knave'}"
    if kind == "not":
        return f"it is not the case that {_part(said[1], names)}"
    return _JOINED[kind].format(*(_part(part, names) for part in said[1:]))


def _part(said: Statement, names: Sequence[str]) -> str:
    is_simple = said[0] in ATOMS or (said[0] == "not" and said[1][0] in ATOMS)
    text = sentence(said, names)
    return text if is_simple else f"({text})"


def quiz(puzzle: Puzzle, names: Sequence[str], rng: random.Random) -> str:
    """The puzzle as it is asked."""
    listed = f"{', '.join(names[:-1])}{',' if len(names) > 2 else ''} and {names[-1]}"
    told = [
        rng.choice(_SAYS).format(n=name, s=sentence(said, names))
        for name, said in zip(names, puzzle.statements, strict=True)
    ]
    return (
        "A very special island is inhabited only by knights and knaves. Knights always tell the truth, and knaves "
        f"always lie. You meet {len(names)} inhabitants: {listed}. {' '.join(told)} So who is a knight and who is a "
        "knave?"
    )


def published_row(puzzle: Puzzle, rng: random.Random) -> dict[str, Any]:
    """A puzzle in the columns of the published data."""
    names = rng.sample(NAMES, len(puzzle.statements))
    return {
        "quiz": quiz(puzzle, names, rng),
        "names": names,
        "solution": list(puzzle.solution),
        "solution_text_format": label_of(names, puzzle.solution),
        "statements": repr(puzzle.statements),
    }


def read_published(row: Mapping[str, Any]) -> tuple[str, str, int]:
    """Quiz, label and number of people of a row of the published data.

    Raises:
        ValueError: no quiz, or neither ``solution_text_format`` nor ``names`` and ``solution``, or other words than
            knight and knave.
    """
    text = row.get("quiz")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"quiz: got {text!r}, expected the text of a puzzle")
    label = row.get("solution_text_format")
    if label is None and row.get("names") is not None and row.get("solution") is not None:
        label = label_of(row["names"], row["solution"])
    return text, str(label), len(decode_label(label))
